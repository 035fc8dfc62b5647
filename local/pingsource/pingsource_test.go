package pingsource_test

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/local/pingsource"
)

func TestSchedules(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 1, 10, 20, 32, 0, time.UTC)
	for schedule, want := range map[string]time.Time{
		"*/5 * * * * *": at.Add(3 * time.Second),
		"* * * * *":     at.Add(28 * time.Second),
		"@hourly":       time.Date(2026, 1, 1, 11, 0, 0, 0, time.UTC),
	} {
		s, err := pingsource.Parse(schedule, "")
		require.NoError(t, err)
		require.Equal(t, want, s.Next(at), schedule)
	}
	s, err := pingsource.Parse("0 9 * * *", "America/New_York")
	require.NoError(t, err)
	require.True(t, time.Date(2026, 1, 1, 14, 0, 0, 0, time.UTC).Equal(s.Next(at)))
	for _, bad := range []string{"@every 5s", " @every 5s", "", "* * *", "61 * * * * *"} {
		_, err := pingsource.Parse(bad, "")
		require.Error(t, err, bad)
	}
}

// A slow tick must not delay the shutdown of the whole stack.
func TestCloseDoesNotWaitForASlowTick(t *testing.T) {
	t.Parallel()
	arrived, left := make(chan struct{}, 16), make(chan struct{}, 16)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // the server notices a closed connection only after the body is read
		arrived <- struct{}{}
		<-r.Context().Done()
		left <- struct{}{}
	}))
	defer server.Close()
	s, err := pingsource.Start(pingsource.Spec{Name: "tick", Namespace: "ns", Schedule: "* * * * * *", Sink: server.URL}, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	<-arrived
	began := time.Now()
	s.Close()
	require.Less(t, time.Since(began), 10*time.Second)
	<-left
}
