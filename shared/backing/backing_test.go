package backing_test

import (
	"encoding/json"
	"log/slog"
	"maps"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/shared/backing"
	"marketdata/shared/kafkaclient"
	"marketdata/shared/priceevent"
	"marketdata/shared/ratelimit"
	"marketdata/shared/service"
	"marketdata/shared/testenv/call"
)

func newService() *service.Service {
	return service.New(service.Config{ShutdownTimeout: time.Second}, slog.New(slog.DiscardHandler))
}

func TestOpenNeedsNoServiceToAnswer(t *testing.T) {
	t.Parallel()
	srv := newService()
	clients, err := backing.Open(srv, backing.Config{
		DatabaseURL: "postgres://127.0.0.1:1/x", RedisURL: "redis://127.0.0.1:1", Kafka: kafkaclient.At("127.0.0.1:1"), Limits: ratelimit.Config{Timeout: time.Second},
	})
	require.NoError(t, err)
	defer clients.Close()
	want := map[string]string{"postgres": "unavailable", "redis": "unavailable"}
	require.Eventually(t, func() bool { // Redis only reports: an answer does not wait for it
		w := call.Do(srv.Handler(), http.MethodGet, "/readyz", "")
		require.Equal(t, http.StatusServiceUnavailable, w.Code)
		var got struct {
			Status string
			Checks map[string]string
		}
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &got))
		require.Equal(t, "not_ready", got.Status)
		return maps.Equal(want, got.Checks)
	}, 10*time.Second, time.Millisecond)
	require.Contains(t, call.Do(srv.Handler(), http.MethodGet, "/metrics", "").Body.String(), "marketdata_limiter_degraded 0")
}

func TestOpenRefusesInvalidURLsWithoutRepeatingThem(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		variable string
		config   backing.Config
	}{
		{"DATABASE_URL", backing.Config{DatabaseURL: "postgres://u:hunter2@h:port/d"}},
		{"REDIS_URL", backing.Config{DatabaseURL: "postgres://h/d", RedisURL: "http://u:hunter2@h"}},
	} {
		t.Run(c.variable, func(t *testing.T) {
			t.Parallel()
			_, err := backing.Open(newService(), c.config)
			require.ErrorContains(t, err, c.variable)
			require.NotContains(t, err.Error(), "hunter2")
		})
	}
}

func TestConfigReportsEveryFaultInOrder(t *testing.T) {
	t.Parallel()
	limits := ratelimit.Config{Timeout: time.Second, MaxCopies: 1, Default: ratelimit.Limit{N: 1, Window: time.Second}}
	require.EqualError(t, backing.Config{Topics: priceevent.DefaultTopics, Limits: limits}.Validate(),
		"DATABASE_URL is not set\nREDIS_URL is not set\nKAFKA_BOOTSTRAP_SERVERS is not set")
	require.EqualError(t, backing.Config{Topics: priceevent.DefaultTopics, Limits: limits, RedisOptional: true}.Validate(),
		"DATABASE_URL is not set\nKAFKA_BOOTSTRAP_SERVERS is not set")
	require.ErrorContains(t, backing.Config{}.Validate(), "RATE_LIMIT_TIMEOUT")
}
