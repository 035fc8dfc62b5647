// Package stream is GET /averages/stream: the newest price and averages of series as server-sent events (HTML standard, section 9.2), first
// as they are, then at each change.
//
// hub.go reads the states and hands them out, event.go encodes them, and this file answers requests.
package stream

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	vm "github.com/VictoriaMetrics/metrics"

	"marketdata/functions/compute-ma/internal/series"
	"marketdata/shared/api"
	"marketdata/shared/fault"
	"marketdata/shared/market"
	"marketdata/shared/problem"
	"marketdata/shared/request"
	"marketdata/shared/service"
)

const (
	maxSymbols = 100
	beat       = 10 * time.Second // between comments, which keep proxies from closing a silent connection
	patience   = 30 * time.Second // for a client to read what it is sent
	sendBuffer = 64 << 10         // bytes that the kernel keeps for a client: about the states of 100 series
	preamble   = "retry: 1000\n\n"
	beatText   = ": still here\n\n"
)

// Config is what the stream needs.
type Config struct {
	Reads           Reader
	DefaultProvider string        // of a request that names none
	MaxClients      int           // at a time
	Duration        time.Duration // of one response; up to a tenth less, so that clients do not all come back at once
	Stopping        <-chan struct{}
	Log             *slog.Logger
	Metrics         *vm.Set
}

// API answers requests. Safe for concurrent use.
type API struct {
	Config
	hub *hub
}

// New returns an API.
func New(c Config) *API {
	return &API{c, newHub(c.Reads, c.MaxClients, c.Log, newMetrics(c.Metrics))}
}

// Routes adds the stream to the function's API, behind limit.
func (a *API) Routes(routes *api.API, limit service.Middleware) {
	api.Mount[documentedQuery, struct{}](routes, operation, limit(http.HandlerFunc(a.stream)))
	routes.Document(describe)
	explain(routes)
}

// stream answers GET /averages/stream. Last-Event-ID is not read: the first states are always sent, so a client that connects again
// misses none, wherever it was and whichever replica answers.
func (a *API) stream(w http.ResponseWriter, r *http.Request) {
	keys, err := a.read(r)
	if err != nil {
		problem.Write(w, r, err)
		return
	}
	header := w.Header()
	header.Set("Content-Type", "text/event-stream")
	header.Set("Cache-Control", "no-store")
	header.Set("X-Accel-Buffering", "no") // for nginx, which would gather the events otherwise
	if r.Method == http.MethodHead {
		w.WriteHeader(http.StatusOK)
		return
	}
	c, err := a.hub.join(keys)
	if err != nil {
		problem.Write(w, r, err)
		return
	}
	defer a.hub.leave(c)
	service.LimitSendBuffer(r, sendBuffer)
	sent, ended := a.send(r.Context(), w, c)
	request.Note(r.Context(), slog.Int("states", sent), slog.String("ended", ended))
}

// buffers hold what is written to a client at a time.
var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// send writes until the end, and returns how many states it wrote and why it ended.
func (a *API) send(ctx context.Context, w http.ResponseWriter, c *client) (sent int, ended string) {
	end := time.NewTimer(a.Duration - rand.N(a.Duration/10+1))
	defer end.Stop()
	beats := time.NewTicker(beat)
	defer beats.Stop()
	control := http.NewResponseController(w)
	write := func(b []byte) error {
		_ = control.SetWriteDeadline(time.Now().Add(patience)) // every server of ours can
		if _, err := w.Write(b); err != nil {
			return err
		}
		return control.Flush()
	}
	err := write([]byte(preamble))
	for err == nil {
		select {
		case <-c.wake:
			b := buffers.Get().(*bytes.Buffer) //nolint:forcetypeassert // nothing else is in the pool
			b.Reset()
			states := a.hub.take(c, b)
			if err = write(b.Bytes()); err == nil {
				sent += states
				a.hub.metrics.states.Add(states)
			}
			buffers.Put(b)
		case <-beats.C:
			err = write([]byte(beatText))
		case <-end.C:
			return sent, "duration"
		case <-a.Stopping:
			return sent, "stopping"
		case <-ctx.Done():
			return sent, "client"
		}
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		a.hub.metrics.stalled.Inc()
		return sent, "not reading"
	}
	return sent, "client"
}

// read parses a request. Errors are Invalid: invalid_parameter, invalid_symbol, invalid_provider.
func (a *API) read(r *http.Request) ([]series.Key, error) {
	provider, symbols := a.DefaultProvider, ""
	err := api.ReadQuery(r.URL.RawQuery, func(name, value string) error {
		switch name {
		case "symbols":
			symbols = value
		case "provider":
			provider = value
		default:
			return fault.New(fault.Invalid, fault.CodeInvalidParameter, "unknown query parameter %.64q", name)
		}
		return nil
	})
	switch {
	case err != nil:
		return nil, err
	case symbols == "":
		return nil, fault.New(fault.Invalid, fault.CodeInvalidParameter, "symbols is missing")
	case strings.Count(symbols, ",") >= maxSymbols:
		return nil, fault.New(fault.Invalid, fault.CodeInvalidParameter, "symbols has more than %d entries", maxSymbols)
	}
	if provider, err = market.ParseProvider(provider); err != nil {
		return nil, err
	}
	var keys []series.Key
	for text := range strings.SplitSeq(symbols, ",") {
		symbol, err := market.ParseSymbol(text)
		if err != nil {
			return nil, err
		}
		if k := (series.Key{Symbol: string(symbol), Provider: provider}); !slices.Contains(keys, k) {
			keys = append(keys, k)
		}
	}
	return keys, nil
}
