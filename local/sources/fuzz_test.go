package sources

import (
	"encoding/json"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"
)

// FuzzManifest reads any document. What is accepted as a source has every member and value of the document: a cluster would read them.
func FuzzManifest(f *testing.F) {
	files, err := filepath.Glob("../../knative/base/*.yaml")
	require.NoError(f, err)
	require.NotEmpty(f, files)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(f, err)
		f.Add(text)
	}
	const ping = "apiVersion: sources.knative.dev/v1\nkind: PingSource\n"
	for _, rest := range []string{
		"spec: {shedule: '* * * * *'}", "spec: {Schedule: '* * * * *'}", "Spec: {schedule: '* * * * *'}", "spec: {schedule: a, schedule: b}", "spec: {data: 1}",
		"spec: {data: &a x, contentType: *a}", "metadata: {labels: {a: yes}}", "spec: {sink: {ref: null, uri: http://x}}", "spec: !!binary AP8=", "kind: KafkaSource",
	} {
		f.Add([]byte(ping + rest + "\n"))
	}
	f.Add([]byte(`{"apiVersion":"sources.knative.dev/v1","kind":"KafkaSource","spec":{"consumers":2,"topics":["a","b"],"delivery":{"retry":1e1}}}`))
	f.Add([]byte("apiVersion: eventing.knative.dev/v1alpha1\nkind: KafkaSink\nspec: {topic: a, numPartitions: 09}\n"))
	f.Fuzz(func(t *testing.T, doc []byte) {
		var all manifests
		if all.add(doc) != nil {
			return
		}
		var got []any
		for _, s := range all.kafkaSources {
			got = append(got, s)
		}
		for _, s := range all.pingSources {
			got = append(got, s)
		}
		for _, s := range all.kafkaSinks {
			got = append(got, s)
		}
		text, err := yaml.YAMLToJSON(doc)
		require.NoError(t, err)
		if len(got) == 0 {
			return // of another kind
		}
		require.Len(t, got, 1)
		read, err := json.Marshal(got[0])
		require.NoError(t, err)
		var want, have any
		require.NoError(t, json.Unmarshal(text, &want))
		require.NoError(t, json.Unmarshal(read, &have))
		require.True(t, contains(have, want), "%s became %s", text, read)
	})
}

// contains reports whether have has all that want says. Saying null, or an empty value, is to say nothing.
func contains(have, want any) bool {
	switch want := want.(type) {
	case nil:
		return true
	case map[string]any:
		have, _ := have.(map[string]any)
		for name, value := range want {
			if !contains(have[name], value) {
				return false
			}
		}
		return true
	case []any:
		have, _ := have.([]any)
		for i, value := range want {
			if i >= len(have) || !contains(have[i], value) {
				return false
			}
		}
		return len(want) == len(have)
	case string:
		return want == have || want == "" && have == nil
	default:
		return want == have
	}
}

// FuzzDuration compares with exact arithmetic: each part is off by less than a nanosecond, or in a duration of months, as a float is.
func FuzzDuration(f *testing.F) {
	for _, text := range []string{"PT1H2M3S", "PT0.3S", "PT", "P1D", "PT-1S", "PT2562047H47M16.854775807S", "PT9999999999H", "PT153722867280M", "PT7000000001S", "PT1S\n", "PT0.1.2S", "PT٣S"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := isoDuration(text)
		if err != nil {
			return
		}
		exact := new(big.Rat)
		for i, part := range isoPattern.FindStringSubmatch(text)[1:] {
			if n, ok := new(big.Rat).SetString(part); ok {
				exact.Add(exact, n.Mul(n, new(big.Rat).SetInt64(int64([]time.Duration{time.Hour, time.Minute, time.Second}[i]))))
			}
		}
		off := new(big.Rat).Sub(exact, new(big.Rat).SetInt64(int64(got)))
		most := new(big.Rat).Add(big.NewRat(3, 1), exact.Mul(exact, big.NewRat(1, 1<<51)))
		require.LessOrEqual(t, off.Abs(off).Cmp(most), 0, got)
	})
}
