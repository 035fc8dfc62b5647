package validate

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	servingv1 "knative.dev/serving/pkg/apis/serving/v1"
)

// Each function gets the URL of its own database user, and the owner's URL only if a function has none. The migration gets all of them.
func TestDatabaseUsers(t *testing.T) {
	t.Parallel()
	all := map[string]string{
		"GET_LATEST_DATABASE_URL": "postgres://l:secret1@db/m", "POLL_DATABASE_URL": "postgres://p:secret2@db/m",
		"COMPUTE_MA_DATABASE_URL": "postgres://c:secret3@db/m", "DLQ_INSPECTOR_DATABASE_URL": "postgres://d:secret4@db/m",
	}
	for name, c := range map[string]struct {
		env    map[string]string
		keys   map[string]string // of Secret databases
		shared bool              // the owner's URL
	}{
		"all": {all, map[string]string{
			"get-latest": all["GET_LATEST_DATABASE_URL"], "poll": all["POLL_DATABASE_URL"], "compute-ma": all["COMPUTE_MA_DATABASE_URL"], "dlq-inspector": all["DLQ_INSPECTOR_DATABASE_URL"],
		}, false},
		"one":  {map[string]string{"POLL_DATABASE_URL": all["POLL_DATABASE_URL"]}, map[string]string{"poll": all["POLL_DATABASE_URL"]}, true},
		"none": {nil, nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := install(t, cluster{job: []string{"Complete"}, env: c.env})
			require.False(t, i.failed, i.err)
			job := slices.IndexFunc(i.calls, func(c call) bool { return strings.HasSuffix(c.String(), "/migrate.yaml") })
			want := maps.Clone(c.env)
			if want == nil {
				want = map[string]string{}
			}
			want["DATABASE_URL"] = secrets["DATABASE_URL"]
			require.Equal(t, want, texts(of[*corev1.Secret](parse(t, i.calls[job].File))[0]))
			objects := i.applied(t)
			from := "databases"
			var keys map[string]string
			for _, s := range of[*corev1.Secret](objects) {
				if strings.HasPrefix(s.Name, "databases-") {
					from, keys = s.Name, texts(s)
				} else if c.shared {
					require.Equal(t, secrets["DATABASE_URL"], texts(s)["DATABASE_URL"])
				} else {
					require.NotContains(t, texts(s), "DATABASE_URL")
				}
			}
			require.Equal(t, c.keys, keys)
			functions := of[*servingv1.Service](objects)
			require.Len(t, functions, 4)
			for _, f := range functions {
				env := f.Spec.Template.Spec.Containers[0].Env
				require.Equal(t, "DATABASE_URL", env[0].Name)
				ref := env[0].ValueFrom.SecretKeyRef
				require.Equal(t, []string{from, f.Name}, []string{ref.Name, ref.Key})
				require.True(t, *ref.Optional, "then the URL of Secret marketdata counts")
			}
		})
	}
}

func texts(s *corev1.Secret) map[string]string {
	got := map[string]string{}
	for name, value := range s.Data {
		got[name] = string(value)
	}
	return got
}
