package service_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"marketdata/shared/service"
	"marketdata/shared/testenv/call"
	"marketdata/shared/testenv/scrape"
)

func TestTheStartIsMeasured(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	listener, err := service.Listen(ctx, service.Config{Host: "127.0.0.1"}, service.Seats)
	require.NoError(t, err)
	s := service.New(service.Config{}, slog.New(slog.DiscardHandler))
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, listener) }()
	get := func(path string, into io.Writer) {
		resp, err := http.Get("http://" + listener.Addr().String() + path)
		require.NoError(t, err)
		defer resp.Body.Close() //nolint:errcheck // read
		require.Equal(t, http.StatusOK, resp.StatusCode, path)
		_, err = io.Copy(into, resp.Body)
		require.NoError(t, err)
	}
	values := func() map[string]float64 { return scrape.Values(t, func(w io.Writer) { get("/metrics", w) }) }
	before := values()
	require.Positive(t, before["marketdata_start_listening_seconds"])
	require.Less(t, before["marketdata_start_listening_seconds"], 600.0, "since this test process began")
	require.NotContains(t, before, "marketdata_start_ready_seconds")
	get("/readyz", io.Discard)
	first := values()
	require.Greater(t, first["marketdata_start_ready_seconds"], first["marketdata_start_listening_seconds"])
	get("/readyz", io.Discard)
	require.InDelta(t, first["marketdata_start_ready_seconds"], values()["marketdata_start_ready_seconds"], 0, "only the first answer counts")
	stop()
	require.NoError(t, <-done)

	handled, _ := newService(t)
	require.NotContains(t, call.Do(handled.Handler(), http.MethodGet, "/metrics", "").Body.String(), "marketdata_start_")
}
