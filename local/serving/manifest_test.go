package serving_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/local/serving"
)

func TestOurManifests(t *testing.T) {
	t.Parallel()
	specs, err := serving.Load("../../knative")
	require.NoError(t, err)
	clients := serving.Spec{Timeout: 45 * time.Second, MaxScale: 4, Target: 70}
	events := serving.Spec{Timeout: 45 * time.Second, MaxScale: 4, Target: 140}
	require.Equal(t, map[string]serving.Spec{"compute-ma": events, "dlq-inspector": events, "get-latest": clients, "poll": clients}, specs)
}

func TestLoad(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, template string
		want           serving.Spec
		err            string
	}{
		{name: "defaults", template: `{}`, want: serving.Spec{Timeout: 5 * time.Minute, Target: 70}},
		{
			name: "everything", want: serving.Spec{Timeout: time.Minute, Concurrency: 10, MinScale: 1, MaxScale: 8, Target: 4},
			template: `{metadata: {annotations: {autoscaling.knative.dev/min-scale: "1", autoscaling.knative.dev/max-scale: "8",
				autoscaling.knative.dev/target: "5", autoscaling.knative.dev/target-utilization-percentage: "80", other: x}},
				spec: {containerConcurrency: 10, timeoutSeconds: 60}}`,
		},
		{
			name: "target of the concurrency", want: serving.Spec{Timeout: 5 * time.Minute, Concurrency: 10, Target: 7},
			template: `{metadata: {annotations: {autoscaling.knative.dev/target: "50"}}, spec: {containerConcurrency: 10}}`,
		},
		{name: "not a number", template: `{metadata: {annotations: {autoscaling.knative.dev/max-scale: many}}}`, err: "max-scale"},
		{name: "not emulated", template: `{metadata: {annotations: {autoscaling.knative.dev/metric: rps}}}`, err: "autoscaling.knative.dev/metric: not emulated"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			require.NoError(t, os.Mkdir(filepath.Join(dir, "base"), 0o700))
			text := "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: a}\nspec: {template: " + tc.template + "}\n---\napiVersion: v1\nkind: Service\nmetadata: {name: b}\n"
			require.NoError(t, os.WriteFile(filepath.Join(dir, "base", "services.yaml"), []byte(text), 0o600))
			specs, err := serving.Load(dir)
			if tc.err != "" {
				require.ErrorContains(t, err, "Service a: ")
				require.ErrorContains(t, err, tc.err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, map[string]serving.Spec{"a": tc.want}, specs)
		})
	}
}
