//go:build integration

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"marketdata/functions/compute-ma/internal/model"
	"marketdata/functions/compute-ma/internal/store"
	"marketdata/shared/postgres"
	"marketdata/shared/priceevent"
	"marketdata/shared/testenv"
	"marketdata/shared/testenv/scrape"
)

// tape writes prices to the database, as another replica does. The price of a point is its number, which no two of them share.
type tape struct {
	points  *store.Store
	started []atomic.Int64 // UnixNano when the transaction of a point with that price began
	prices  int
	newest  map[string]int // price by symbol
}

func newTape(pool *pgxpool.Pool) *tape {
	return &tape{points: store.New(pool, windows), started: make([]atomic.Int64, 1_000_000), newest: map[string]int{}}
}

// move gives each of the symbols a new price, in one transaction.
func (m *tape) move(t *testing.T, symbols ...string) {
	t.Helper()
	var all []priceevent.Observation
	for _, symbol := range symbols {
		m.prices++
		m.newest[symbol] = m.prices
		all = append(all, model.Observation(symbol, model.Instant.Add(time.Duration(m.prices)*time.Second), model.Prices(t, strconv.Itoa(m.prices))[0]))
		m.started[m.prices].Store(time.Now().UnixNano())
	}
	_, err := m.points.Apply(t.Context(), all)
	require.NoError(t, err)
}

// follower is a client of the stream.
type follower struct {
	conn    net.Conn
	symbols []string

	mu     sync.Mutex
	prices map[string]int // newest, by symbol
	took   []time.Duration
	states int
}

// follow opens a stream. The response is not read yet.
func follow(t *testing.T, b *binary, symbols ...string) *follower {
	t.Helper()
	address := strings.Trim(strings.TrimPrefix(b.url, "http://"), "/")
	conn, err := net.Dial("tcp", address)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	_, err = fmt.Fprintf(conn, "GET /averages/stream?provider=p&symbols=%s HTTP/1.1\r\nHost: h\r\n\r\n", strings.Join(symbols, ","))
	require.NoError(t, err)
	return &follower{conn: conn, symbols: symbols, prices: map[string]int{}}
}

// read reads until the end of the stream, which is nil if it ended whole.
func (f *follower) read(m *tape) error {
	resp, err := http.ReadResponse(bufio.NewReaderSize(f.conn, 32<<10), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // read to its end
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		_, rest, found := bytes.Cut(lines.Bytes(), []byte(`data: {"symbol":"`))
		if !found {
			continue
		}
		symbol, rest, _ := bytes.Cut(rest, []byte(`"`))
		_, rest, _ = bytes.Cut(rest, []byte(`"price":`))
		text, _, _ := bytes.Cut(rest, []byte(`,`))
		price, err := strconv.Atoi(string(text))
		if err != nil {
			return err
		}
		took := time.Since(time.Unix(0, m.started[price].Load()))
		f.mu.Lock()
		f.prices[string(symbol)] = price
		f.took, f.states = append(f.took, took), f.states+1
		f.mu.Unlock()
	}
	return lines.Err()
}

// has reports whether the client has the newest price of each of its symbols.
func (f *follower) has(m *tape) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, symbol := range f.symbols {
		if f.prices[symbol] != m.newest[symbol] {
			return false
		}
	}
	return true
}

func (f *follower) forget() []time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	took := f.took
	f.took = nil
	return took
}

func setupStream(t *testing.T, extra ...string) (*tape, func() *binary) {
	t.Helper()
	url, kafka := testenv.PostgresURL(t), testenv.Kafka(t)
	pool, err := postgres.Open(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	topics := testenv.Topics(t, kafka)
	return newTape(pool), func() *binary {
		return startBinary(t, url, kafka, topics, append([]string{"RATE_LIMIT_DEFAULT=100000/1m"}, extra...)...)
	}
}

func (b *binary) metrics(t *testing.T) map[string]float64 {
	t.Helper()
	resp, err := http.Get(b.url + "metrics")
	require.NoError(t, err)
	defer resp.Body.Close() //nolint:errcheck // read whole
	return scrape.Values(t, func(w io.Writer) {
		_, err := io.Copy(w, resp.Body)
		require.NoError(t, err)
	})
}

// residentMiB returns the memory of a process.
func residentMiB(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	require.NoError(t, err)
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	require.NoError(t, err)
	return kib >> 10
}

// Every replica streams every change, whichever replica commits it.
func TestStreamsOfTwoReplicas(t *testing.T) {
	t.Parallel()
	m, start := setupStream(t)
	m.move(t, "A", "B")
	var all []*follower
	for range 2 {
		b := start()
		all = append(all, follow(t, b, "A", "B"), follow(t, b, "B", "NONE"))
	}
	for _, f := range all {
		go func() { _ = f.read(m) }()
	}
	for range 5 {
		for _, f := range all {
			require.Eventually(t, func() bool { return f.has(m) }, 10*time.Second, time.Millisecond)
		}
		m.move(t, "B")
		m.move(t, "A", "B")
	}
}

// Many clients while many series move. At full size, which needs two cores for the replica, clients and database together:
// STREAM_CLIENTS=1000 STREAM_WATCHED=20 STREAM_SECONDS=60.
func TestStreamUnderLoad(t *testing.T) {
	t.Parallel()
	const series, perTransaction = 200, 10 // each series moves twice a second
	clients, watched := testenv.Size(t, "STREAM_CLIENTS", 100), testenv.Size(t, "STREAM_WATCHED", 10)
	seconds := testenv.Size(t, "STREAM_SECONDS", 5)
	m, start := setupStream(t, "STREAM_DURATION=10m", "STREAM_MAX_CLIENTS=2000")
	b := start()
	symbols := make([]string, series)
	for i := range symbols {
		symbols[i] = fmt.Sprint("S", i)
	}
	m.move(t, symbols...)
	idle := residentMiB(t, b.cmd.Process.Pid)
	var all []*follower
	for range clients {
		own := slices.Clone(symbols)
		rand.Shuffle(len(own), func(i, j int) { own[i], own[j] = own[j], own[i] })
		f := follow(t, b, own[:watched]...)
		all = append(all, f)
		go func() {
			if err := f.read(m); !errors.Is(err, net.ErrClosed) {
				t.Errorf("a stream ended: %v", err)
			}
		}()
	}
	for range clients / 20 {
		follow(t, b, symbols[:100]...) // never reads
	}
	everyone := func() bool { return !slices.ContainsFunc(all, func(f *follower) bool { return !f.has(m) }) }
	require.Eventually(t, everyone, 20*time.Second, 10*time.Millisecond, "first states")
	for _, f := range all {
		f.forget()
	}

	before, most := b.metrics(t), 0
	tick := time.NewTicker(500 * time.Millisecond / (series / perTransaction))
	defer tick.Stop()
	began := time.Now()
	for n := 0; time.Since(began) < time.Duration(seconds)*time.Second; n++ {
		<-tick.C
		i := n * perTransaction % series
		m.move(t, symbols[i:i+perTransaction]...)
		if n%20 == 0 {
			most = max(most, residentMiB(t, b.cmd.Process.Pid))
		}
	}
	took, after := time.Since(began).Seconds(), b.metrics(t)
	require.Eventually(t, everyone, 5*time.Second, 10*time.Millisecond, "a client misses a last state")
	var delays []time.Duration
	for _, f := range all {
		delays = append(delays, f.forget()...)
	}
	slices.Sort(delays)
	p99 := delays[len(delays)*99/100]
	t.Logf("%d clients of %d series each: %.0f states/s, begin of the transaction to client p50 %v, p99 %v, max %v; RSS %d MiB before, %d MiB at most; %.0f stalled",
		clients, watched, float64(len(delays))/took, delays[len(delays)/2], p99, delays[len(delays)-1], idle, most, after["marketdata_compute_ma_stream_stalled_total"])
	t.Logf("CPU of the replica: %.2f s/s; reads of states: %.2f/s, mean %.2f ms", (after["process_cpu_seconds_total"]-before["process_cpu_seconds_total"])/took,
		(after["marketdata_compute_ma_stream_read_duration_seconds_count"]-before["marketdata_compute_ma_stream_read_duration_seconds_count"])/took,
		1000*after["marketdata_compute_ma_stream_read_duration_seconds_sum"]/after["marketdata_compute_ma_stream_read_duration_seconds_count"])
	require.Less(t, p99, 500*time.Millisecond)
	if seconds > 45 {
		require.InDelta(t, clients/20, after["marketdata_compute_ma_stream_stalled_total"], 0)
	}
}

// A client whose replica is killed gets what it missed when it connects again.
func TestAStreamAfterItsReplicaWasKilled(t *testing.T) {
	t.Parallel()
	m, start := setupStream(t)
	b := start()
	m.move(t, "A", "B")
	f := follow(t, b, "A", "B")
	ended := make(chan error, 1)
	go func() { ended <- f.read(m) }()
	require.Eventually(t, func() bool { return f.has(m) }, 10*time.Second, time.Millisecond)
	m.move(t, "A")
	b.kill(t)
	require.Error(t, <-ended, "a stream that is cut does not look complete")
	m.move(t, "B")
	b.start(t)
	again := follow(t, b, "A", "B")
	go func() { _ = again.read(m) }()
	require.Eventually(t, func() bool { return again.has(m) }, 10*time.Second, time.Millisecond)
}

// A replica that stops ends its streams at once, whole, and is gone long before SHUTDOWN_TIMEOUT.
func TestAReplicaWithStreamsStops(t *testing.T) {
	t.Parallel()
	m, start := setupStream(t)
	b := start()
	m.move(t, "A")
	const clients = 50
	ended := make(chan error, clients)
	for range clients {
		f := follow(t, b, "A")
		go func() { ended <- f.read(m) }()
	}
	idle := follow(t, b, "A") // never reads
	defer idle.conn.Close()   //nolint:errcheck // nothing depends on it
	require.Eventually(t, func() bool { return b.metrics(t)["marketdata_compute_ma_stream_states_total"] == clients+1 }, 10*time.Second, 5*time.Millisecond)
	began := time.Now()
	require.NoError(t, b.cmd.Process.Signal(syscall.SIGTERM))
	for range clients {
		require.NoError(t, <-ended)
	}
	require.NoError(t, b.cmd.Wait())
	require.Less(t, time.Since(began), 5*time.Second)
	_, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", strings.Trim(strings.TrimPrefix(b.url, "http://"), "/"))
	require.Error(t, err)
}
