package deploy_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"marketdata/shared/market"
	"marketdata/shared/postgres/roles"
)

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(text)
}

// functions returns the folder names of the functions.
func functions(t *testing.T) (names []string) {
	t.Helper()
	mains, err := filepath.Glob("../functions/*/main.go")
	require.NoError(t, err)
	require.Len(t, mains, 4)
	for _, main := range mains {
		names = append(names, filepath.Base(filepath.Dir(main)))
	}
	return names
}

// variables returns the variables of .env.example, with their defaults.
func variables(t *testing.T) map[string]string {
	t.Helper()
	known := map[string]string{}
	for _, line := range regexp.MustCompile(`(?m)^#?([A-Z][A-Z0-9_]+)=(\S*)`).FindAllStringSubmatch(read(t, "../.env.example"), -1) {
		require.NotContains(t, known, line[1], "listed twice")
		known[line[1]] = line[2]
	}
	require.Greater(t, len(known), 30)
	return known
}

// .env.example lists exactly the variables that the configs read, with the same defaults.
func TestEnvExampleMatchesTheConfigs(t *testing.T) {
	t.Parallel()
	known, seen := variables(t), map[string]bool{}
	tag := regexp.MustCompile("`envconfig:\"([A-Z][A-Z0-9_]*)\"(?: default:\"([^\"]*)\")?")
	for _, root := range []string{"../functions", "../shared", "../local", "."} {
		require.NoError(t, filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			for _, found := range tag.FindAllStringSubmatch(read(t, path), -1) {
				name, value := found[1], found[2]
				if name == "CI" || name == "LOCAL_STACK" { // set by the environment, not by users
					continue
				}
				seen[name] = true
				require.Contains(t, known, name, path)
				if value != "" {
					require.Equal(t, value, known[name], "%s in %s", name, path)
				}
			}
			return nil
		}))
	}
	for _, l := range market.Catalog { // not in envconfig tags; providers_test.go checks the defaults
		for _, setting := range []string{"_BASE_URL", "_API_KEY", "_BUDGET"} {
			seen[strings.ToUpper(l.Name)+setting] = setting != "_API_KEY" || l.Key
		}
	}
	for _, name := range []string{ // OpenTelemetry's SDK reads them itself; tests of shared/trace set each
		"OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG",
	} {
		seen[name] = true
	}
	for name := range known {
		if strings.HasPrefix(name, "KAFKA_") { // librdkafka's properties, whatever their names
			continue
		}
		require.True(t, seen[name], "no config reads %s", name)
	}
}

// Every secret of a config may come from a file, and the documents say so.
func TestSecretsFromFilesAreDocumented(t *testing.T) {
	t.Parallel()
	var secrets []string
	tag := regexp.MustCompile("(?:(?:service\\.Secret|secret\\.Value) +`envconfig:\"([A-Z_]+)\"|`envconfig:\"([A-Z_]+)\" secret:\"true\")")
	for _, pattern := range []string{"../*/config.go", "../*/*/config.go", "../*/*/*/config.go", "migrate/main.go"} {
		paths, err := filepath.Glob(pattern)
		require.NoError(t, err)
		for _, path := range paths {
			for _, found := range tag.FindAllStringSubmatch(read(t, path), -1) {
				secrets = append(secrets, found[1]+found[2])
			}
		}
	}
	require.Subset(t, secrets, []string{"DATABASE_URL", "REDIS_URL", "API_KEYS", "DLQ_TOKEN", "DLQ_TOKENS", "POLL_DATABASE_URL"})
	for _, name := range secrets {
		for _, path := range []string{"../.env.example", "../README.md", "README.md"} {
			require.Contains(t, read(t, path), name+"_FILE", path)
		}
	}
	for _, l := range market.Catalog {
		if l.Key {
			require.Contains(t, read(t, "README.md"), strings.ToUpper(l.Name)+"_API_KEY_FILE")
		}
	}
}

func TestOpenFaaSStack(t *testing.T) {
	t.Parallel()
	var stack struct {
		Version   string
		Functions map[string]struct {
			Image       string
			SkipBuild   bool `json:"skip_build"`
			Environment map[string]string
			Annotations map[string]string
			Labels      map[string]string
		}
	}
	require.NoError(t, yaml.Unmarshal([]byte(read(t, "openfaas/stack.yaml")), &stack))
	require.Equal(t, "1.0", stack.Version)
	known := variables(t)
	for _, name := range functions(t) {
		f, found := stack.Functions[name]
		require.True(t, found, name)
		require.Equal(t, "${REGISTRY:-marketdata}/"+name+":${TAG:-latest}", f.Image)
		require.True(t, f.SkipBuild)
		for variable := range f.Environment {
			require.Contains(t, known, variable)
		}
		require.NotEmpty(t, f.Environment["SHUTDOWN_DELAY"])
	}
	require.Len(t, stack.Functions, 4)
	require.Equal(t, "price-events", stack.Functions["compute-ma"].Annotations["topic"])
	require.Contains(t, stack.Functions["dlq-inspector"].Annotations["topic"], "price-events-dlq")
	for _, ticked := range []string{"poll", "dlq-inspector"} {
		require.Contains(t, stack.Functions[ticked].Annotations["topic"], "cron-function")
		require.Len(t, strings.Fields(stack.Functions[ticked].Annotations["schedule"]), 5)
	}
}

// documents returns the documents of a manifest, by kind and name.
func documents(t *testing.T, path string) map[string]map[string]any {
	t.Helper()
	found := map[string]map[string]any{}
	for _, text := range strings.Split(read(t, path), "\n---\n") {
		var d map[string]any
		require.NoError(t, yaml.Unmarshal([]byte(text), &d), path)
		meta, ok := d["metadata"].(map[string]any)
		require.True(t, ok, path)
		name, ok := meta["name"].(string)
		if !ok {
			name, ok = meta["generateName"].(string)
		}
		require.True(t, ok, path)
		kind, ok := d["kind"].(string)
		require.True(t, ok, path)
		found[kind+"/"+name] = d
	}
	return found
}

func TestKnativeManifests(t *testing.T) {
	t.Parallel()
	services := documents(t, "../knative/base/services.yaml")
	for _, name := range functions(t) {
		require.Contains(t, services, "Service/"+name)
		text, err := yaml.Marshal(services["Service/"+name])
		require.NoError(t, err)
		require.Contains(t, string(text), "image: marketdata/"+name+":latest")
		require.Regexp(t, `env:\s+- name: DATABASE_URL\s+valueFrom:\s+secretKeyRef:\s+key: `+name+`\s+name: databases\s+optional: true`, string(text))
	}
	require.Len(t, services, 4)
	patch := read(t, "../knative/base/kustomize/function.yaml")
	for _, want := range []string{
		"networking.knative.dev/visibility: cluster-local", "readOnlyRootFilesystem: true", "runAsNonRoot: true", "allowPrivilegeEscalation: false", `autoscaling.knative.dev/max-scale: "4"`,
	} {
		require.Contains(t, patch, want)
	}
	known := variables(t)
	defaults := regexp.MustCompile(`(?m)^([A-Z_]+)=.`).FindAllStringSubmatch(read(t, "../knative/base/defaults.env"), -1)
	require.Len(t, defaults, 2)
	for _, variable := range defaults {
		require.Contains(t, known, variable[1])
	}
	var kustomization struct {
		Resources []string
		Patches   []struct {
			Path   string
			Target map[string]string
		}
	}
	require.NoError(t, yaml.Unmarshal([]byte(read(t, "../knative/base/kustomization.yaml")), &kustomization))
	files, err := filepath.Glob("../knative/base/*.yaml")
	require.NoError(t, err)
	require.Len(t, kustomization.Resources, len(files)-1, "every other file is a resource")
	for _, resource := range kustomization.Resources {
		require.NotEmpty(t, documents(t, "../knative/base/"+resource))
	}
	require.Len(t, kustomization.Patches, 2)
	require.Equal(t, "kustomize/function.yaml", kustomization.Patches[0].Path)
	require.Equal(t, map[string]string{"group": "serving.knative.dev", "kind": "Service"}, kustomization.Patches[0].Target, "every function")
	require.Contains(t, documents(t, "migrate-job.yaml"), "Job/migrate-")
}

// The migration makes the database users that the functions of the compose file connect as.
func TestComposeHasADatabaseUserForEachFunction(t *testing.T) {
	t.Parallel()
	var compose struct {
		Services map[string]struct{ Environment map[string]string }
	}
	require.NoError(t, yaml.Unmarshal([]byte(read(t, "../docker-compose.yml")), &compose))
	job := compose.Services["migrate"].Environment
	require.Len(t, job, 5)
	for _, name := range functions(t) {
		url := compose.Services[name].Environment["DATABASE_URL"]
		require.Equal(t, job[roles.Variable(name)], url)
		require.Contains(t, url, "//"+strings.ReplaceAll(name, "-", "_")+":")
	}
	require.Contains(t, job["DATABASE_URL"], "//marketdata:")
	require.NotContains(t, compose.Services["local"].Environment, "DATABASE_URL")
}

// A pod that stops has timeoutSeconds for queue-proxy's 30 s of draining and for SHUTDOWN_TIMEOUT; it is killed if they take longer. A
// source gives up later than the function's platform does, so that two attempts hardly overlap. timeoutSeconds is for whole responses,
// so that streams must be shorter.
func TestTimeouts(t *testing.T) {
	t.Parallel()
	shutdown, err := time.ParseDuration(variables(t)["SHUTDOWN_TIMEOUT"])
	require.NoError(t, err)
	found := regexp.MustCompile(`(?m)^- op: add\n  path: /spec/template/spec/timeoutSeconds\n(?:  #.*\n)*  value: (\d+)$`).
		FindStringSubmatch(read(t, "../knative/base/kustomize/function.yaml"))
	require.NotNil(t, found)
	timeout, err := time.ParseDuration(found[1] + "s")
	require.NoError(t, err)
	require.GreaterOrEqual(t, timeout, 30*time.Second+shutdown+5*time.Second)
	stream, err := time.ParseDuration(variables(t)["STREAM_DURATION"])
	require.NoError(t, err)
	require.LessOrEqual(t, stream, timeout-5*time.Second, "a stream ends by itself, and may wait for a cold start before")
	deliveries := regexp.MustCompile(`(?m)^    timeout: PT(\d+S)`).FindAllStringSubmatch(read(t, "../knative/base/kafka.yaml"), -1)
	require.Len(t, deliveries, 2)
	for _, d := range deliveries {
		delivery, err := time.ParseDuration(strings.ToLower(d[1]))
		require.NoError(t, err)
		require.Greater(t, delivery, timeout)
	}
}

// With enough replicas the ingress' gateway sends requests to the pods itself, and Prometheus always does.
func TestNetworkPoliciesAdmitWhatReachesPods(t *testing.T) {
	t.Parallel()
	policies := documents(t, "../knative/base/network-policy.yaml")
	for name, wants := range map[string][]string{
		"functions":            {"knative-serving", "knative-eventing", "podSelector: {}"},
		"functions-ingress":    {"kourier-system", "istio-system", "contour-external", "contour-internal"},
		"functions-monitoring": {"monitoring", "port: 8080", "port: 9090", "port: 9091"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spec, ok := policies["NetworkPolicy/"+name]["spec"].(map[string]any)
			require.True(t, ok)
			require.Equal(t, map[string]any{"matchExpressions": []any{
				map[string]any{"key": "serving.knative.dev/service", "operator": "Exists"},
			}}, spec["podSelector"], "the pods of all functions")
			text, err := yaml.Marshal(spec["ingress"])
			require.NoError(t, err)
			for _, want := range wants {
				require.Contains(t, string(text), want)
			}
		})
	}
	require.Len(t, policies, 3)
}

// The compose file, the runbook and the manifests have the same topics and consumer groups.
func TestTopicsAreTheSameEverywhere(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"../docker-compose.yml", "RUNBOOK.md"} {
		text := read(t, path)
		for _, want := range []string{"price-events", "price-events-dlq", "max.message.bytes=2097152", "compression.type=uncompressed", "retention.ms=-1"} {
			require.Contains(t, text, want, path)
		}
	}
	kafka := read(t, "../knative/base/kafka.yaml")
	for _, want := range []string{"consumerGroup: marketdata.compute-ma", "consumerGroup: marketdata.dlq-inspector", "contentMode: binary"} {
		require.Contains(t, kafka, want)
	}
}
