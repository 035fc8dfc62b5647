package sources

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/local/kafkasource"
	"marketdata/shared/priceevent"
)

func TestDeployedManifests(t *testing.T) {
	t.Parallel()
	all, err := load("../../knative")
	require.NoError(t, err)
	require.Len(t, all.kafkaSources, 2)
	require.Len(t, all.pingSources, 2)
	require.Len(t, all.kafkaSinks, 1)
	for _, s := range all.kafkaSources {
		require.Equal(t, "unordered", s.Spec.Ordering)
		require.Equal(t, "earliest", s.Spec.InitialOffset)
		require.NotEmpty(t, s.Spec.ConsumerGroup)
		require.Equal(t, "byte-array", s.Metadata.Labels["kafkasources.sources.knative.dev/key-type"])
		require.Equal(t, s.Spec.Topics[0], s.Spec.CEOverrides.Extensions["kafkatopic"])
		require.Equal(t, "price-events-dlq", s.Spec.Delivery.DeadLetterSink.Ref.Name)
		d, err := s.Spec.Delivery.resolve()
		require.NoError(t, err)
		require.Equal(t, kafkasource.Delivery{Retry: 150, BackoffDelay: time.Second, Timeout: 50 * time.Second}, d)
	}
}

func TestNamesOfThisSystem(t *testing.T) {
	t.Parallel()
	all, err := load("../../knative")
	require.NoError(t, err)
	all.rename(priceevent.Topics{Events: "acme.prices", DeadLetters: "acme.poison"}, "acme.")
	for i, want := range []struct{ topic, group string }{{"acme.prices", "acme.marketdata.compute-ma"}, {"acme.poison", "acme.marketdata.dlq-inspector"}} {
		spec := all.kafkaSources[i].Spec
		require.Equal(t, []string{want.topic}, spec.Topics)
		require.Equal(t, want.topic, spec.CEOverrides.Extensions["kafkatopic"])
		require.Equal(t, want.group, spec.ConsumerGroup)
	}
	require.Equal(t, "acme.poison", all.kafkaSinks[0].Spec.Topic)
	again, err := load("../../knative")
	require.NoError(t, err)
	again.rename(priceevent.DefaultTopics, "")
	untouched, err := load("../../knative")
	require.NoError(t, err)
	require.Equal(t, untouched, again, "the defaults are the manifests' own names")
}

// What is absent from a delivery that is present is not taken from the defaults of an absent one.
func TestDeliveryDefaults(t *testing.T) {
	t.Parallel()
	three := 3
	for name, c := range map[string]struct {
		spec *delivery
		want kafkasource.Delivery
	}{
		"absent":       {nil, kafkasource.Delivery{Retry: 10, Exponential: true, BackoffDelay: 300 * time.Millisecond, Timeout: 10 * time.Minute}},
		"empty":        {&delivery{}, kafkasource.Delivery{Exponential: true, BackoffDelay: 200 * time.Millisecond, Timeout: 10 * time.Minute}},
		"retries only": {&delivery{Retry: &three}, kafkasource.Delivery{Retry: 3, Exponential: true, BackoffDelay: 200 * time.Millisecond, Timeout: 10 * time.Minute}},
		"backoff only, without effect": {
			&delivery{BackoffPolicy: "linear", BackoffDelay: "PT1S"}, kafkasource.Delivery{BackoffDelay: time.Second, Timeout: 10 * time.Minute},
		},
		"whole": {
			&delivery{Retry: &three, BackoffPolicy: "linear", BackoffDelay: "PT1S", Timeout: "PT5S"},
			kafkasource.Delivery{Retry: 3, BackoffDelay: time.Second, Timeout: 5 * time.Second},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := c.spec.resolve()
			require.NoError(t, err)
			require.Equal(t, c.want, got)
		})
	}
	_, err := (&delivery{BackoffPolicy: "quadratic"}).resolve()
	require.Error(t, err)
}

func TestPingData(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		contentType, data, base64 string
		want                      string
		err                       string
	}{
		"none":                       {contentType: "application/json"},
		"text":                       {data: "text", want: "text"},
		"JSON":                       {contentType: "application/json", data: `{ "a": 1.10 }`, want: `{ "a": 1.10 }`},
		"JSON that is not an object": {contentType: "application/json", data: "[]", err: "must be a JSON object"},
		"base64":                     {base64: "AP8=", want: "\x00\xff"},
		"bad base64":                 {base64: "?", err: "dataBase64"},
		"both":                       {data: "x", base64: "AP8=", err: "exclude each other"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var m pingSource
			m.Spec.ContentType, m.Spec.Data, m.Spec.DataBase64 = c.contentType, c.data, c.base64
			got, err := m.data()
			if c.err != "" {
				require.ErrorContains(t, err, c.err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.want, string(got))
		})
	}
}

func TestUnknownMembersAreErrors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "base"), 0o700))
	text := "apiVersion: sources.knative.dev/v1\nkind: PingSource\nmetadata: {name: x}\nspec: {shedule: '* * * * *'}\n"
	require.NoError(t, os.WriteFile(filepath.Join(dir, "base", "x.yaml"), []byte(text), 0o600))
	_, err := load(dir)
	require.ErrorContains(t, err, "shedule")
	_, err = load(t.TempDir())
	require.Error(t, err)
}

func TestDurations(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{"PT1S": time.Second, "PT0.3S": 300 * time.Millisecond, "PT1H2M3S": time.Hour + 2*time.Minute + 3*time.Second} {
		d, err := isoDuration(text)
		require.NoError(t, err)
		require.Equal(t, want, d)
	}
	for _, bad := range []string{"", "PT", "1s", "P1D", "PT-1S", "PT9999999999H", "PT2562047H47M17S"} {
		_, err := isoDuration(bad)
		require.Error(t, err, bad)
	}
}
