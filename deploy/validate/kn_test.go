package validate

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
)

// TestMain makes this program also the kubectl, kn and sleep that kn.sh finds on its PATH.
func TestMain(m *testing.M) {
	name := filepath.Base(os.Args[0])
	if name != "kubectl" && name != "kn" && name != "sleep" {
		os.Exit(m.Run())
	}
	path, err := exec.LookPath(os.Args[0])
	if err == nil {
		err = fake(filepath.Dir(path), name, os.Args[1:], os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// call is one call of kubectl, kn or sleep by kn.sh.
type call struct {
	Program string
	Args    []string
	File    string // the content of the file named by -f
}

func (c call) String() string { return c.Program + " " + strings.Join(c.Args, " ") }

// fake is a cluster that accepts everything. It records its calls in the folder, and reads there what the job and the Services do.
func fake(folder, program string, args []string, out io.Writer) error {
	c := call{Program: program, Args: args}
	if i := slices.Index(args, "-f"); i >= 0 {
		content, err := os.ReadFile(args[i+1])
		if err != nil {
			return err
		}
		c.File = string(content)
	}
	line, err := json.Marshal(c)
	if err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(folder, "calls"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = log.Write(append(line, '\n'))
	if err := errors.Join(err, log.Close()); err != nil {
		return err
	}
	text, all := "", " "+c.String()+" "
	switch {
	case strings.Contains(all, " kustomize "):
		text, err = build(args[1])
	case strings.Contains(all, " create secret generic migrate "):
		text, err = secretFrom(strings.TrimPrefix(args[slices.IndexFunc(args, func(a string) bool { return strings.HasPrefix(a, "--from-file=") })], "--from-file="))
	case strings.Contains(all, " create -f "):
		text = "job.batch/migrate-1\n"
	case strings.Contains(all, " get job.batch/migrate-1 "):
		text, err = next(filepath.Join(folder, "job"))
	case strings.Contains(all, " logs "):
		text = "migrate: password authentication failed\n"
	case strings.Contains(all, " wait ") && strings.Contains(all, " ksvc "):
		_, err = os.Stat(filepath.Join(folder, "ready"))
	}
	if err != nil {
		return err
	}
	_, err = io.WriteString(out, text)
	return err
}

// secretFrom is what "kubectl create secret generic migrate --from-file=folder --dry-run=client -o yaml" prints.
func secretFrom(folder string) (string, error) {
	files, err := os.ReadDir(folder)
	if err != nil {
		return "", err
	}
	text := "apiVersion: v1\ndata:\n"
	for _, file := range files {
		value, err := os.ReadFile(filepath.Join(folder, file.Name()))
		if err != nil {
			return "", err
		}
		text += fmt.Sprintf("  %s: %s\n", file.Name(), base64.StdEncoding.EncodeToString(value))
	}
	return text + "kind: Secret\nmetadata:\n  name: migrate\n  namespace: marketdata\n", nil
}

// next takes the first line out of a file.
func next(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err == nil && len(text) == 0 {
		err = errors.New("kn.sh looks at a job that has ended")
	}
	if err != nil {
		return "", err
	}
	line, rest, _ := strings.Cut(string(text), "\n")
	return line, os.WriteFile(path, []byte(rest), 0o600)
}

// installation is a run of kn.sh.
type installation struct {
	calls    []call
	out, err string
	failed   bool
	left     []string // in the folder for temporary files
}

// cluster is what the fake does, and what kn.sh is told.
type cluster struct {
	job      []string // the conditions of the migration job, one per look
	notReady bool     // the Services never become ready
	env      map[string]string
	args     []string
}

var secrets = map[string]string{
	"DATABASE_URL": "postgres://user:secret1@db/marketdata?sslmode=verify-full&a='b'", "REDIS_URL": "rediss://:secret2@redis:6379",
	"DLQ_TOKENS": "ada:secret3\nbob:secret4", "ALPHA_VANTAGE_API_KEY": strings.Repeat("secret5", 20), // longer than a line
}

func install(t *testing.T, c cluster) installation {
	t.Helper()
	folder, temporary := t.TempDir(), t.TempDir()
	self, err := os.Executable()
	require.NoError(t, err)
	for _, name := range []string{"kubectl", "kn", "sleep"} {
		require.NoError(t, os.Symlink(self, filepath.Join(folder, name)))
	}
	require.NoError(t, os.WriteFile(filepath.Join(folder, "job"), []byte(strings.Join(c.job, "\n")), 0o600))
	if !c.notReady {
		require.NoError(t, os.WriteFile(filepath.Join(folder, "ready"), nil, 0o600))
	}
	if c.args == nil {
		c.args = []string{"1.2.0"}
	}
	cmd := exec.CommandContext(t.Context(), "/bin/sh", append([]string{"../kn.sh"}, c.args...)...)
	cmd.Env = []string{"PATH=" + folder + ":/usr/local/bin:/usr/bin:/bin", "TMPDIR=" + temporary, "HOME=" + temporary, "KAFKA_BOOTSTRAP_SERVERS=k1:9093,k2:9093"}
	for _, all := range []map[string]string{secrets, c.env} { // the last one wins
		for name, value := range all {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	i := installation{out: stdout.String(), err: stderr.String(), failed: err != nil}
	log, err := os.ReadFile(filepath.Join(folder, "calls"))
	if !os.IsNotExist(err) {
		require.NoError(t, err)
	}
	for line := range strings.Lines(string(log)) {
		var one call
		require.NoError(t, json.Unmarshal([]byte(line), &one))
		i.calls = append(i.calls, one)
	}
	entries, err := os.ReadDir(temporary)
	require.NoError(t, err)
	for _, entry := range entries {
		i.left = append(i.left, entry.Name())
	}
	return i
}

// step names the calls whose order matters.
func (i installation) steps() (steps []string) {
	for _, c := range i.calls {
		all := c.String()
		for prefix, step := range map[string]string{
			"kubectl apply -f knative/base/namespace.yaml": "namespace", "kubectl create -f": "job", "kubectl -n marketdata get job.batch/": "look at the job",
			"sleep": "sleep", "kubectl -n marketdata logs": "log", "kubectl -n marketdata wait --for=condition=Ready --timeout=5m ksvc": "wait for functions",
			"kubectl -n marketdata wait --for=condition=Ready --timeout=5m kafkasource,kafkasink,pingsource": "wait for sources", "kn -n marketdata service list": "summary",
		} {
			if strings.HasPrefix(all, prefix) {
				steps = append(steps, step)
			}
		}
		if strings.HasSuffix(all, "/migrate.yaml") {
			steps = append(steps, "secret of the job")
		}
		if strings.HasSuffix(all, "/manifests.yaml") {
			steps = append(steps, "functions and sources")
		}
	}
	return steps
}

// applied returns the objects of the last call of "apply".
func (i installation) applied(t *testing.T) []any {
	t.Helper()
	for _, c := range slices.Backward(i.calls) {
		if c.Program == "kubectl" && c.Args[0] == "apply" {
			return parse(t, c.File)
		}
	}
	require.FailNow(t, "nothing was applied")
	return nil
}

func TestMigrationGoesFirst(t *testing.T) {
	t.Parallel()
	i := install(t, cluster{job: []string{"", "", "SuccessCriteriaMet Complete"}})
	require.False(t, i.failed, i.err)
	require.Equal(t, []string{
		"namespace", "secret of the job", "job", "look at the job", "sleep", "look at the job", "sleep", "look at the job",
		"functions and sources", "wait for functions", "wait for sources", "summary",
	}, i.steps())
	objects := i.applied(t)
	require.Len(t, of[*servingv1.Service](objects), 4)
	require.Empty(t, i.left)
	require.Empty(t, i.err)
}

// A wrong password stops at the job: no function sees it.
func TestAFailedMigrationChangesNothing(t *testing.T) {
	t.Parallel()
	i := install(t, cluster{job: []string{"", "FailureTarget Failed"}})
	require.True(t, i.failed)
	require.Equal(t, []string{"namespace", "secret of the job", "job", "look at the job", "sleep", "look at the job", "log"}, i.steps())
	require.Contains(t, i.out, "migrate: password authentication failed")
	require.Contains(t, i.err, "the migration failed; the functions are unchanged")
	require.Empty(t, i.left)
}

func TestFunctionsThatAreNotReady(t *testing.T) {
	t.Parallel()
	i := install(t, cluster{job: []string{"Complete"}, notReady: true})
	require.True(t, i.failed)
	require.Equal(t, "summary", i.steps()[len(i.steps())-1])
	require.Contains(t, i.err, "not every function is ready")
}

func TestDryRunAppliesNothing(t *testing.T) {
	t.Parallel()
	i := install(t, cluster{args: []string{"--dry-run", "1.2.0"}})
	require.False(t, i.failed, i.err)
	require.Empty(t, i.steps())
	for _, c := range i.calls {
		require.True(t, strings.HasPrefix(c.String(), "kubectl kustomize ") || strings.HasSuffix(c.String(), " --dry-run=client -o yaml"), c)
	}
	for _, kind := range []string{"Namespace", "Secret", "ConfigMap", "Job", "Service", "KafkaSource", "KafkaSink", "PingSource", "NetworkPolicy"} {
		require.Contains(t, i.out, "\nkind: "+kind+"\n")
	}
	require.Contains(t, i.out, "image: dev.local/migrate:1.2.0")
	require.Contains(t, i.out, "  DATABASE_URL: (hidden)\n  DLQ_TOKENS: (hidden)\n  REDIS_URL: (hidden)\n")
	for name, value := range secrets {
		require.NotContains(t, i.out, value, name)
		require.NotContains(t, i.out, base64.StdEncoding.EncodeToString([]byte(value))[:20], name)
	}
	require.Empty(t, i.left)
}

// The arguments of a process can be read by every user of the machine.
func TestNoSecretIsAnArgument(t *testing.T) {
	t.Parallel()
	i := install(t, cluster{job: []string{"Complete"}})
	require.False(t, i.failed, i.err)
	for _, c := range i.calls {
		require.NotRegexp(t, "secret[1-9]", c.String())
	}
}

// Behind a pooler migrations need a connection of their own, and the functions do not see it.
func TestMigrationsOfAnotherURL(t *testing.T) {
	t.Parallel()
	const direct = "postgres://owner:secret8@db-direct/marketdata"
	for name, c := range map[string]struct {
		env  map[string]string
		want string
	}{
		"the same":    {nil, secrets["DATABASE_URL"]},
		"another one": {map[string]string{"MIGRATE_DATABASE_URL": direct}, direct},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := install(t, cluster{job: []string{"Complete"}, env: c.env})
			require.False(t, i.failed, i.err)
			secret := slices.IndexFunc(i.calls, func(c call) bool { return strings.HasSuffix(c.String(), "/migrate.yaml") })
			require.Equal(t, c.want, string(of[*corev1.Secret](parse(t, i.calls[secret].File))[0].Data["DATABASE_URL"]))
			require.Equal(t, secrets["DATABASE_URL"], string(of[*corev1.Secret](i.applied(t))[0].Data["DATABASE_URL"]))
		})
	}
}

// Functions restart with a changed value, because the name of its Secret or ConfigMap changes, and with it the revision's template.
func TestAChangedValueMakesARevision(t *testing.T) {
	t.Parallel()
	from := func(env map[string]string) (secret, config string) {
		i := install(t, cluster{job: []string{"Complete"}, env: env})
		require.False(t, i.failed, i.err)
		objects := i.applied(t)
		for _, s := range of[*servingv1.Service](objects) {
			sources := s.Spec.Template.Spec.Containers[0].EnvFrom
			config, secret = sources[1].ConfigMapRef.Name, sources[2].SecretRef.Name
		}
		require.Equal(t, of[*corev1.Secret](objects)[0].Name, secret)
		return secret, config
	}
	secret, config := from(nil)
	again, configAgain := from(nil)
	require.Equal(t, secret, again)
	require.Equal(t, config, configAgain)
	rotated, same := from(map[string]string{"DLQ_TOKENS": "ada:secret3"})
	require.NotEqual(t, secret, rotated)
	require.Equal(t, config, same)
	same, changed := from(map[string]string{"LOG_LEVEL": "debug"})
	require.Equal(t, secret, same)
	require.NotEqual(t, config, changed)
}
