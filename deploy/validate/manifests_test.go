package validate

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(text)
}

// build renders a folder as "kubectl kustomize" does.
func build(folder string) (string, error) {
	options := krusty.MakeDefaultOptions()
	options.Reorder = krusty.ReorderOptionUnspecified // as the folder says
	resources, err := krusty.MakeKustomizer(options).Run(filesys.MakeFsOnDisk(), folder)
	if err != nil {
		return "", err
	}
	text, err := resources.AsYaml()
	return string(text), err
}

// parse validates all documents of a text.
func parse(t *testing.T, text string) (objects []any) {
	t.Helper()
	for document := range strings.SplitSeq(text, "\n---\n") {
		object, err := validate([]byte(document))
		require.NoError(t, err, document)
		objects = append(objects, object)
	}
	return objects
}

func render(t *testing.T, folder string) []any {
	t.Helper()
	text, err := build(folder)
	require.NoError(t, err)
	return parse(t, text)
}

// of returns the objects of a type, by their order.
func of[T any](objects []any) (found []T) {
	for _, object := range objects {
		if o, ok := object.(T); ok {
			found = append(found, o)
		}
	}
	return found
}

// Every folder with a kustomization is valid, by itself or over base.
func TestManifestsAreValid(t *testing.T) {
	t.Parallel()
	for _, folder := range []string{"base", "overlays/local-kind", "overlays/production"} {
		t.Run(folder, func(t *testing.T) {
			t.Parallel()
			objects := render(t, "../../knative/"+folder)
			services := of[*servingv1.Service](objects)
			require.Len(t, services, 4)
			for _, s := range services {
				checkFunction(t, s)
			}
			checkSources(t, objects, services)
		})
	}
}

// The components, over base and in the combinations that make sense.
func TestComponentsAreValid(t *testing.T) {
	t.Parallel()
	repository, err := filepath.Abs("../..")
	require.NoError(t, err)
	used := map[string]bool{}
	for _, components := range []string{"ca", "kafka-auth", "kafka-auth kafka-ca", "kafka-auth kafka-mtls", "kafka-auth kafka-ca kafka-mtls ca", "monitoring"} {
		overlay := "resources: [repository/knative/base]\ncomponents:\n"
		for _, component := range strings.Fields(components) {
			used[component] = true
			overlay += "  - repository/knative/components/" + component + "\n"
		}
		t.Run(components, func(t *testing.T) {
			t.Parallel()
			folder := t.TempDir()
			require.NoError(t, os.Symlink(repository, filepath.Join(folder, "repository")))
			require.NoError(t, os.WriteFile(filepath.Join(folder, "kustomization.yaml"), []byte(overlay), 0o600))
			objects := render(t, folder)
			services := of[*servingv1.Service](objects)
			require.Len(t, services, 4)
			for _, s := range services {
				checkFunction(t, s)
			}
			checkSources(t, objects, services)
		})
	}
	folders, err := filepath.Glob("../../knative/components/*")
	require.NoError(t, err)
	require.Len(t, used, len(folders), "every component is tested")
}

// checkFunction checks what Knative accepts, but a function needs.
func checkFunction(t *testing.T, s *servingv1.Service) {
	t.Helper()
	require.Equal(t, "marketdata", s.Namespace)
	require.Equal(t, "cluster-local", s.Labels["networking.knative.dev/visibility"])
	require.NotEmpty(t, s.Spec.Template.Annotations["autoscaling.knative.dev/max-scale"])
	pod := s.Spec.Template.Spec
	require.Len(t, pod.Containers, 1)
	container := pod.Containers[0]
	require.Regexp(t, `^(marketdata|kind\.local)/`+s.Name+`:`, container.Image)
	require.Equal(t, corev1.PullIfNotPresent, container.ImagePullPolicy)
	require.Equal(t, "/readyz", container.ReadinessProbe.HTTPGet.Path)
	security := container.SecurityContext
	require.True(t, *security.RunAsNonRoot)
	require.True(t, *security.ReadOnlyRootFilesystem)
	require.False(t, *security.AllowPrivilegeEscalation)
	require.Equal(t, []corev1.Capability{"ALL"}, security.Capabilities.Drop)
	require.Equal(t, corev1.SeccompProfileTypeRuntimeDefault, security.SeccompProfile.Type)
	require.Len(t, container.EnvFrom, 3)
	require.Regexp(t, `^marketdata-defaults-[a-z0-9]{10}$`, container.EnvFrom[0].ConfigMapRef.Name, "a change makes a new revision")
}

// checkSources checks that everything that is referred to exists, and that attempts hardly overlap: a source gives up later than the
// platform. A pod that stops has timeoutSeconds for queue-proxy's 30 s of draining, for SHUTDOWN_TIMEOUT, and for late requests.
func checkSources(t *testing.T, objects []any, services []*servingv1.Service) {
	t.Helper()
	setting := regexp.MustCompile(`(?m)^#SHUTDOWN_TIMEOUT=(\S+)`).FindStringSubmatch(read(t, "../../.env.example"))
	require.NotNil(t, setting)
	shutdown, err := time.ParseDuration(setting[1])
	require.NoError(t, err)
	timeouts := map[string]time.Duration{}
	for _, s := range services {
		timeouts[s.Name] = time.Duration(*s.Spec.Template.Spec.TimeoutSeconds) * time.Second
		require.GreaterOrEqual(t, timeouts[s.Name], 30*time.Second+shutdown+5*time.Second)
	}
	sinks := of[*kafkaSink](objects)
	require.Len(t, sinks, 1)
	sources := of[*kafkaSource](objects)
	require.Len(t, sources, 2)
	for _, s := range sources {
		require.Contains(t, timeouts, s.Spec.Sink.Ref.Name)
		delivery, err := time.ParseDuration(strings.ToLower(strings.TrimPrefix(*s.Spec.Delivery.Timeout, "PT")))
		require.NoError(t, err)
		require.Greater(t, delivery, timeouts[s.Spec.Sink.Ref.Name])
		require.Equal(t, "KafkaSink", s.Spec.Delivery.DeadLetterSink.Ref.Kind)
		require.Equal(t, sinks[0].Name, s.Spec.Delivery.DeadLetterSink.Ref.Name)
	}
}

// An overlay sets the namespaces of the ingress' gateway and of Prometheus.
func TestProductionAdmitsOneIngress(t *testing.T) {
	t.Parallel()
	objects := render(t, "../../knative/overlays/production")
	require.Len(t, of[*podMonitor](objects), 1)
	require.Len(t, of[*prometheusRule](objects), 1)
	admitted := map[string][]string{}
	for _, p := range of[*networkingv1.NetworkPolicy](objects) {
		for _, from := range p.Spec.Ingress[0].From {
			if from.NamespaceSelector != nil && len(from.NamespaceSelector.MatchExpressions) > 0 {
				admitted[p.Name] = from.NamespaceSelector.MatchExpressions[0].Values
			}
		}
	}
	require.Equal(t, map[string][]string{"functions-ingress": {"kourier-system"}, "functions-monitoring": {"monitoring"}}, admitted)
}

func TestMigrateJobIsValid(t *testing.T) {
	t.Parallel()
	jobs := of[*batchv1.Job](parse(t, read(t, "../migrate-job.yaml")))
	require.Len(t, jobs, 1)
	require.NotZero(t, *jobs[0].Spec.ActiveDeadlineSeconds, "kn.sh waits until it ends")
}

// The manifests in testdata/bad are refused, each for the reason in its first line.
func TestBadManifestsAreRefused(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/bad/*.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		seen := map[string]bool{}
		for document := range strings.SplitSeq(read(t, file), "\n---\n") {
			first, _, _ := strings.Cut(document, "\n")
			reason, found := strings.CutPrefix(first, "# refused: ")
			require.True(t, found, document)
			require.False(t, seen[reason], "twice: %s", reason)
			seen[reason] = true
			t.Run(filepath.Base(file)+" "+reason, func(t *testing.T) {
				t.Parallel()
				_, err := validate([]byte(document))
				require.ErrorContains(t, err, reason)
			})
		}
	}
}
