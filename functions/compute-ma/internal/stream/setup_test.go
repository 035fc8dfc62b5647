package stream_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/functions/compute-ma/internal/averages"
	"marketdata/functions/compute-ma/internal/model"
	"marketdata/functions/compute-ma/internal/series"
	"marketdata/functions/compute-ma/internal/stream"
	"marketdata/shared/api"
	"marketdata/shared/service"
	"marketdata/shared/testenv/pipes"
	"marketdata/shared/testenv/scrape"
)

// states is a Reader of states in memory.
type states struct {
	mu    sync.Mutex
	now   map[series.Key]series.State
	reads []time.Time
	sent  int           // states
	took  time.Duration // of a read
	err   error
}

func (s *states) States(_ context.Context, keys []series.Key, versions []string) (changed []series.State, _ error) {
	s.mu.Lock()
	s.reads = append(s.reads, time.Now())
	for i, k := range keys {
		if state, found := s.now[k]; found && state.Version != versions[i] {
			changed = append(changed, state)
		}
	}
	err := s.err
	s.sent += len(changed)
	s.mu.Unlock()
	time.Sleep(s.took)
	if err != nil {
		return nil, err
	}
	return changed, nil
}

// set makes the nth state of a series.
func (s *states) set(t *testing.T, symbol string, n int) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	price := series.NewValue(model.Prices(t, fmt.Sprint(n+1, ".5"))[0].Decimal())
	k := series.Key{Symbol: symbol, Provider: "yfinance"}
	s.now[k] = series.State{Key: k, Version: fmt.Sprint("v", n), Price: price, AsOf: int64(n) * 1e6, Averages: []series.Average{
		{Window: 5, PointsUsed: 2, Mean: price}, {Window: 2, PointsUsed: 2, Mean: price},
	}}
}

// touch gives the state of a series another version, as a rebuild does.
func (s *states) touch(symbol string, asOf int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := series.Key{Symbol: symbol, Provider: "yfinance"}
	state := s.now[k]
	state.Version, state.AsOf = state.Version+"'", asOf
	s.now[k] = state
}

func (s *states) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func (s *states) readTimes() []time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reads
}

type bundle struct {
	states   *states
	srv      *service.Service
	routes   *api.API
	stopping chan struct{}
	log      *bytes.Buffer
	conns    pipes.Listener
}

func setup(t *testing.T, maxClients int, duration time.Duration) *bundle {
	t.Helper()
	b := &bundle{states: &states{now: map[series.Key]series.State{}}, stopping: make(chan struct{}), log: &bytes.Buffer{}, conns: pipes.New()}
	log := slog.New(slog.NewJSONHandler(b.log, nil))
	b.srv = service.New(service.Config{}, log)
	b.routes = api.New(b.srv, "compute-ma", "")
	unlimited := func(next http.Handler) http.Handler { return next }
	averages.New(averages.Config{}).Routes(b.routes, unlimited) // both have to fit into one document
	stream.New(stream.Config{
		Reads: b.states, DefaultProvider: "yfinance", MaxClients: maxClients, Duration: duration,
		Stopping: b.stopping, Log: log, Metrics: b.srv.Metrics,
	}).Routes(b.routes, unlimited)
	server := service.NewServer(b.srv.Handler(), slog.New(slog.DiscardHandler))
	go func() { _ = server.Serve(service.Bounded(b.conns, service.Seats)) }()
	t.Cleanup(func() { close(b.conns); _ = server.Close() })
	return b
}

func (b *bundle) metrics(t *testing.T) map[string]float64 {
	t.Helper()
	return scrape.Values(t, func(w io.Writer) { b.srv.Metrics.WritePrometheus(w) })
}

type event struct {
	at   time.Time
	text string // with its last line break
	data averages.Series
}

// client is one stream. Nothing of it is read unless the test does so.
type client struct {
	net.Conn
	status int
	header http.Header
	body   io.Reader
}

// open begins a stream, with the fake clock of synctest.
func (b *bundle) open(t *testing.T, symbols string) client {
	t.Helper()
	conn := b.conns.Dial()
	_, err := io.WriteString(conn, "GET /averages/stream?symbols="+symbols+" HTTP/1.1\r\nHost: h\r\nLast-Event-ID: x\r\n\r\n")
	require.NoError(t, err)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = conn.Close()
		_ = resp.Body.Close()
		time.Sleep(time.Minute) // the hub notices that there are no clients
	})
	return client{conn, resp.StatusCode, resp.Header, resp.Body}
}

// each reads events and comments until the end of the stream, or until see returns false.
func each(t *testing.T, c client, see func(e event) (more bool)) {
	t.Helper()
	r, e := bufio.NewReader(c.body), event{}
	for {
		line, err := r.ReadString('\n')
		if errors.Is(err, io.EOF) {
			require.Empty(t, e.text, "the stream ends within an event")
			return
		}
		require.NoError(t, err)
		e.text += line
		if data, found := strings.CutPrefix(line, "data: "); found {
			require.NoError(t, json.Unmarshal([]byte(data), &e.data))
		}
		if line == "\n" {
			e.at = time.Now()
			if !see(e) {
				return
			}
			e = event{}
		}
	}
}
