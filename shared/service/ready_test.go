package service_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/shared/fault"
	"marketdata/shared/service"
	"marketdata/shared/testenv/call"
	"marketdata/shared/testenv/scrape"
)

// fake is a dependency that can be switched off.
type fake struct {
	down  atomic.Bool
	asked atomic.Int32
}

func (f *fake) ping(context.Context) error {
	f.asked.Add(1)
	if f.down.Load() {
		return errors.New("dial db.internal: password=x")
	}
	return nil
}

func TestOnlyARequiredDependencyDecides(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var postgres, kafka fake
		s, _ := newService(t, service.Check{Name: "postgres", Ping: postgres.ping, Required: true}, service.Check{Name: "kafka", Ping: kafka.ping})
		for _, row := range []struct {
			name            string
			postgres, kafka bool // down
			status          int
			body            string
		}{
			{"all answer", false, false, 200, `{"status":"ready","checks":{"postgres":"ok","kafka":"ok"}}`},
			{"kafka is away", false, true, 200, `{"status":"ready","checks":{"postgres":"ok","kafka":"unavailable"}}`},
			{"postgres is away", true, false, 503, `{"status":"not_ready","checks":{"postgres":"unavailable","kafka":"ok"}}`},
		} {
			postgres.down.Store(row.postgres)
			kafka.down.Store(row.kafka)
			for _, path := range []string{"/readyz?verbose", "/readyz", "/_/ready"} {
				w := call.Do(s.Handler(), http.MethodGet, path, "")
				require.Equal(t, row.status, w.Code, "%s: %s", row.name, path)
				require.JSONEq(t, row.body, w.Body.String(), "%s: %s", row.name, path)
			}
			synctest.Wait()
		}
		require.Equal(t, http.StatusOK, call.Do(s.Handler(), http.MethodGet, "/_/health", "").Code)
	})
}

// A database that is read-only answers, but is of no use to a function that writes.
func TestAReadOnlyDependencyIsNamed(t *testing.T) {
	t.Parallel()
	standby := func(context.Context) error {
		return fmt.Errorf("ping: %w", fault.New(fault.Unavailable, fault.CodeReadOnly, "x"))
	}
	s, _ := newService(t, service.Check{Name: "postgres", Ping: standby, Required: true}, service.Check{Name: "redis", Ping: standby})
	w := call.Do(s.Handler(), http.MethodGet, "/readyz?verbose", "")
	require.Equal(t, http.StatusServiceUnavailable, w.Code)
	require.JSONEq(t, `{"status":"not_ready","checks":{"postgres":"read_only","redis":"read_only"}}`, w.Body.String())
	values := scrape.Values(t, s.Metrics.WritePrometheus)
	require.InDelta(t, 0, values[`marketdata_dependency_up{dependency="postgres"}`], 0)
}

// A dependency that hangs and is not required delays nobody; one that is required makes the function wait for it, but not for long.
func TestADependencyThatHangs(t *testing.T) {
	t.Parallel()
	for name, required := range map[string]bool{"required": true, "not required": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				hang := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
				s, _ := newService(t, service.Check{Name: "kafka", Ping: hang, Required: required})
				began := time.Now()
				w := call.Do(s.Handler(), http.MethodGet, "/readyz", "")
				if required {
					require.Equal(t, http.StatusServiceUnavailable, w.Code)
					require.LessOrEqual(t, time.Since(began), 2*time.Second)
				} else {
					require.Equal(t, http.StatusOK, w.Code)
					require.Zero(t, time.Since(began))
					require.JSONEq(t, `{"status":"ready","checks":{"kafka":"unknown"}}`, w.Body.String())
				}
				time.Sleep(3 * time.Second) // on synctest's clock: the check has given up
			})
		})
	}
}

// Probes come every second, from several probers: a dependency that is not required is asked every five seconds at most.
func TestProbesDoNotFloodADependency(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var kafka fake
		s, _ := newService(t, service.Check{Name: "kafka", Ping: kafka.ping})
		for range 60 {
			call.Do(s.Handler(), http.MethodGet, "/readyz", "")
			call.Do(s.Handler(), http.MethodGet, "/metrics", "")
			time.Sleep(time.Second) // on synctest's clock
		}
		require.LessOrEqual(t, kafka.asked.Load(), int32(13))
		require.GreaterOrEqual(t, kafka.asked.Load(), int32(11))
	})
}

func TestAChangeIsLoggedOnceWithItsCause(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var postgres, kafka fake
		s, out := newService(t, service.Check{Name: "postgres", Ping: postgres.ping, Required: true}, service.Check{Name: "kafka", Ping: kafka.ping, Reports: true})
		for _, down := range []bool{false, true, true, true, false, false} {
			postgres.down.Store(down)
			kafka.down.Store(down)
			call.Do(s.Handler(), http.MethodGet, "/readyz?verbose", "")
			want := 1.0
			if down {
				want = 0
			}
			values := scrape.Values(t, s.Metrics.WritePrometheus)
			require.InDelta(t, want, values[`marketdata_dependency_up{dependency="postgres"}`], 0)
			require.InDelta(t, want, values[`marketdata_dependency_up{dependency="kafka"}`], 0)
		}
		var warnings []string
		for lines := json.NewDecoder(out); lines.More(); {
			var line struct{ Level, Msg, Dependency, Err string }
			require.NoError(t, lines.Decode(&line))
			if line.Level == "WARN" {
				warnings = append(warnings, line.Dependency+": "+line.Msg+": "+line.Err)
			}
		}
		require.Equal(t, []string{
			"postgres: dependency cannot be used: dial db.internal: password=x", "postgres: dependency can be used again: ",
		}, warnings)
	})
}
