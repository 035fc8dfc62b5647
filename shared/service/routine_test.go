package service_test

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/shared/fault"
	"marketdata/shared/problem"
	"marketdata/shared/request"
	"marketdata/shared/testenv/call"
)

func TestRoutineEventsAreSummedUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, logs := newService(t)
		s.Mux.HandleFunc("POST /{$}", func(w http.ResponseWriter, r *http.Request) {
			request.NoteEvent(r.Context(), "e1")
			switch r.Header.Get("Case") {
			case "note":
				request.Note(r.Context(), slog.String("outcome", "corrected"))
			case "error":
				problem.WriteEvent(w, r, errors.New("boom"))
				return
			}
			time.Sleep(2 * time.Millisecond)
			w.WriteHeader(http.StatusNoContent)
		})
		call.Do(s.Handler(), http.MethodPost, "/", "")
		call.Do(s.Handler(), http.MethodPost, "/", "")
		require.Empty(t, logs.String(), "a routine event has no line of its own")
		call.Do(s.Handler(), http.MethodPost, "/", "", "Case", "note")
		call.Do(s.Handler(), http.MethodPost, "/", "", "Case", "error")
		lines := strings.Split(strings.TrimSpace(logs.String()), "\n")
		require.Len(t, lines, 2)
		require.Contains(t, lines[0], `"event_id":"e1","outcome":"corrected"`)
		require.Contains(t, lines[1], `"level":"ERROR"`)

		logs.Reset()
		call.Do(s.Handler(), http.MethodPost, "/", "") // also makes the reset happen before the timer writes
		time.Sleep(11 * time.Second)
		synctest.Wait()
		var line struct {
			Msg    string
			Events int
			Route  string
			Mean   float64 `json:"mean_ms"`
			Worst  float64 `json:"worst_ms"`
		}
		require.NoError(t, json.Unmarshal(logs.Bytes(), &line))
		require.Equal(t, "events", line.Msg)
		require.Equal(t, 3, line.Events)
		require.Equal(t, "POST /{$}", line.Route)
		require.InDelta(t, 2, line.Mean, 0)
		require.InDelta(t, 2, line.Worst, 0)

		logs.Reset()
		time.Sleep(time.Minute)
		require.Empty(t, logs.String(), "nothing happened, so nothing is logged")
	})
}

// A crowd that is refused does not fill the log.
func TestRefusalsOfAnOverloadAreSummedUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, logs := newService(t)
		s.Mux.HandleFunc("GET /things", func(w http.ResponseWriter, r *http.Request) {
			problem.Write(w, r, fault.New(fault.Unavailable, fault.CodeOverloaded, "too many requests are in flight"))
		})
		for range 1000 {
			w := call.Do(s.Handler(), http.MethodGet, "/things", "")
			require.Equal(t, http.StatusServiceUnavailable, w.Code)
			require.Equal(t, "1", w.Header().Get("Retry-After"))
		}
		time.Sleep(11 * time.Second)
		synctest.Wait()
		require.Equal(t, 1, strings.Count(logs.String(), "\n"))
		require.Contains(t, logs.String(), `"level":"WARN","msg":"requests refused: overloaded","route":"GET /things","requests":1000`)
	})
}
