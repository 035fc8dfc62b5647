//go:build integration

package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"marketdata/shared/fault"
	"marketdata/shared/kafkaclient"
	"marketdata/shared/market"
	"marketdata/shared/priceevent"
	"marketdata/shared/testenv"
	"marketdata/shared/testenv/scrape"
)

type provider struct {
	quote market.Quote
	err   error
}

func (provider) Name() string { return "fake" }

func (p provider) Latest(context.Context, market.Symbol) (market.Quote, market.Response, error) {
	return p.quote, market.Response{Status: 200, Body: []byte("raw"), ReceivedAt: time.Now()}, p.err
}

type publisher struct {
	mu      sync.Mutex
	err     error
	slow    time.Duration // how long an acknowledgement takes
	calls   int
	records []kafkaclient.Record
}

// Produce refuses the key NEVER, fails on the key DOWN, and blocks on the key HANG until ctx ends.
func (p *publisher) Produce(ctx context.Context, r kafkaclient.Record) error {
	p.mu.Lock()
	p.calls++
	p.mu.Unlock()
	if string(r.Key) == "HANG" {
		<-ctx.Done()
		return fault.Wrap(ctx.Err(), fault.Unavailable, "broker_unavailable", "x")
	}
	select {
	case <-time.After(p.slow):
	case <-ctx.Done():
		return ctx.Err()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if string(r.Key) == "NEVER" {
		return fault.New(fault.Invalid, "message_too_large", "x")
	}
	if string(r.Key) == "DOWN" {
		return fault.New(fault.Unavailable, "broker_unavailable", "x")
	}
	if p.err != nil {
		return p.err
	}
	p.records = append(p.records, r)
	return nil
}

func (p *publisher) setError(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err = err
}

type bundle struct {
	pool *pgxpool.Pool
	pub  *publisher
	in   *Ingester
}

func quote(t *testing.T, symbol market.Symbol) market.Quote {
	t.Helper()
	p, err := market.ParsePrice("150.25")
	require.NoError(t, err)
	return market.Quote{Symbol: symbol, Provider: "fake", Price: p, ObservedAt: time.Date(2024, 3, 20, 10, 30, 0, 123456789, time.UTC)}
}

func setup(t *testing.T, p provider) bundle {
	t.Helper()
	b := bundle{pool: testenv.Postgres(t), pub: &publisher{}}
	b.in = New(b.pool, b.pub, "price-events", map[string]market.Provider{"fake": p}, slog.New(slog.DiscardHandler))
	t.Cleanup(b.in.Close)
	return b
}

func (b bundle) exec(t *testing.T, sql string) {
	t.Helper()
	_, err := b.pool.Exec(t.Context(), sql)
	require.NoError(t, err)
}

func (b bundle) count(t *testing.T, table string) (n int) {
	t.Helper()
	require.NoError(t, b.pool.QueryRow(t.Context(), "select count(*) from "+table).Scan(&n))
	return n
}

// empty waits until the outbox is empty: deletes run in the background.
func (b bundle) empty(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool { return b.count(t, "outbox") == 0 }, 5*time.Second, time.Millisecond)
}

func TestFetchStoresAndPublishes(t *testing.T) {
	t.Parallel()
	b := setup(t, provider{quote: quote(t, "AAPL")})
	r, err := b.in.Fetch(t.Context(), "fake", "AAPL")
	require.NoError(t, err)
	require.Equal(t, 123456000, r.Quote.ObservedAt.Nanosecond(), "truncated to microseconds, as Postgres and the event have them")
	require.Equal(t, 1, b.count(t, "raw_responses"))
	b.empty(t)
	require.Len(t, b.pub.records, 1)
	require.Equal(t, "price-events", b.pub.records[0].Topic)
	o, err := priceevent.Decode(b.pub.records[0].Value, 0, time.Now())
	require.NoError(t, err)
	require.Equal(t, r.RawResponseID, o.RawResponseID)
	require.Equal(t, r.Quote.ObservedAt, o.ObservedAt)
}

func TestInvalidObservationIsNotStored(t *testing.T) {
	t.Parallel()
	early := quote(t, "AAPL")
	early.ObservedAt = time.Date(1969, 12, 31, 23, 59, 59, 0, time.UTC)
	b := setup(t, provider{quote: early})
	_, err := b.in.Fetch(t.Context(), "fake", "AAPL")
	require.Equal(t, "provider_malformed", fault.CodeOf(err))
	require.Zero(t, b.count(t, "raw_responses"))
	require.Zero(t, b.count(t, "outbox"))
	require.Empty(t, b.pub.records)
	_, err = b.in.Fetch(t.Context(), "nobody", "AAPL")
	require.Equal(t, "unknown_provider", fault.CodeOf(err))
}

func TestSweepPublishesUnpublishedEvents(t *testing.T) {
	t.Parallel()
	b := setup(t, provider{quote: quote(t, "AAPL")})
	down := errors.New("broker is down")
	b.pub.setError(down)
	r, err := b.in.Fetch(t.Context(), "fake", "AAPL")
	require.NoError(t, err, "the quote is stored")
	b.acknowledged(t)
	require.Equal(t, 1, b.count(t, "outbox"))
	b.pub.setError(nil)
	n, err := b.in.Sweep(t.Context(), 10)
	require.NoError(t, err)
	require.Zero(t, n, "not due: Fetch has the first 10 s to publish it")
	b.pub.setError(down)
	b.due(t)
	n, err = b.in.Sweep(t.Context(), 10)
	require.NoError(t, err)
	require.Zero(t, n)
	require.Equal(t, 1, b.count(t, "outbox"), "retried indefinitely")
	b.pub.setError(nil)
	b.due(t)
	n, err = b.in.Sweep(t.Context(), 10)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.Zero(t, b.count(t, "outbox"))
	headers := map[string]string{}
	for _, h := range b.pub.records[0].Headers {
		headers[h.Name] = string(h.Value)
	}
	require.Equal(t, priceevent.Type, headers["ce_type"])
	require.Equal(t, "AAPL", string(b.pub.records[0].Key))
	require.Equal(t, "price-events", b.pub.records[0].Topic)
	o, err := priceevent.Decode(b.pub.records[0].Value, 0, time.Now())
	require.NoError(t, err)
	require.Equal(t, r.RawResponseID, o.RawResponseID)
}

// acknowledged waits until no event awaits its acknowledgement.
func (b bundle) acknowledged(t *testing.T) {
	t.Helper()
	fill(b.in.publishing)
	for range cap(b.in.publishing) {
		<-b.in.publishing
	}
}

// A hanging broker does not delay clients, however many events await it.
func TestFetchDoesNotWaitForTheBroker(t *testing.T) {
	t.Parallel()
	b := setup(t, provider{quote: quote(t, "HANG")})
	b.in.publishing = make(chan struct{}, 3)
	for range 5 {
		began := time.Now()
		_, err := b.in.Fetch(t.Context(), "fake", "HANG")
		require.NoError(t, err)
		require.Less(t, time.Since(began), publishWait/2)
	}
	require.Equal(t, 5, b.count(t, "outbox"), "left to the sweep: three that were tried, and two that found no free slot")
	b.acknowledged(t)
	require.Equal(t, 5, b.count(t, "outbox"))
}

// A function that stops right after its response has published the event and deleted its row.
func TestCloseWaitsForEventsInFlight(t *testing.T) {
	t.Parallel()
	pool, pub := testenv.Postgres(t), &publisher{slow: 50 * time.Millisecond}
	in := New(pool, pub, "price-events", map[string]market.Provider{"fake": provider{quote: quote(t, "AAPL")}}, slog.New(slog.DiscardHandler))
	ctx, leave := context.WithCancel(t.Context())
	_, err := in.Fetch(ctx, "fake", "AAPL")
	require.NoError(t, err)
	leave()
	in.Close()
	require.Len(t, pub.records, 1)
	require.Zero(t, bundle{pool: pool}.count(t, "outbox"))
}

// due makes every row due.
func (b bundle) due(t *testing.T) {
	t.Helper()
	b.exec(t, "update outbox set next_attempt_at = now()")
}

func (b bundle) rows(t *testing.T, keys ...string) {
	t.Helper()
	for _, k := range keys {
		_, err := b.pool.Exec(t.Context(), "insert into outbox (topic, key, value, headers) values ('t', $1, 'v', '{}')", []byte(k))
		require.NoError(t, err)
	}
}

func many(n int, key string) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = key
	}
	return keys
}

func (p *publisher) asked() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.calls
}

func (p *publisher) published() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.records)
}

func TestRefusedRowsDoNotBlockOthers(t *testing.T) {
	t.Parallel()
	b := setup(t, provider{})
	b.rows(t, many(25, "NEVER")...)
	b.rows(t, "A", "B")
	n, err := b.in.Sweep(t.Context(), 10)
	require.NoError(t, err)
	require.Equal(t, 2, n)
	require.Equal(t, 25, b.count(t, "outbox"), "retried indefinitely")
	var least, most time.Duration
	require.NoError(t, b.pool.QueryRow(t.Context(), "select min(next_attempt_at - now()), max(next_attempt_at - now()) from outbox").Scan(&least, &most))
	require.Greater(t, least, time.Second, "a back-off of its own")
	require.LessOrEqual(t, most, 2*time.Second)
}

// A broker that acknowledged a row is available, however many others it fails for.
func TestFailingRowsDoNotBlockOthers(t *testing.T) {
	t.Parallel()
	b := setup(t, provider{})
	b.rows(t, "A")
	b.rows(t, many(35, "DOWN")...)
	b.rows(t, "B")
	n, err := b.in.Sweep(t.Context(), 10)
	require.NoError(t, err)
	require.Equal(t, 2, n)
	require.Equal(t, 35, b.count(t, "outbox"))
}

func TestHangingRowsDoNotBlockOthers(t *testing.T) {
	t.Parallel()
	b := setup(t, provider{})
	b.rows(t, many(9, "HANG")...)
	b.rows(t, many(60, "A")...)
	stop, done := b.beginSweep(t)
	require.Eventually(t, func() bool { return b.pub.published() == 60 }, 4*time.Second, 5*time.Millisecond)
	require.Empty(t, done, "the nine still hang")
	stop()
	require.Equal(t, swept{60, nil}, <-done)
	require.Equal(t, 9, b.count(t, "outbox"))
	require.Zero(t, b.count(t, "outbox where next_attempt_at > now() + interval '2 seconds'"), "rescheduled, although the tick has ended")
}

// An unavailable broker does not delay the whole backlog: only rows that were tried are backed off.
func TestSweepStopsIfTheBrokerIsUnavailable(t *testing.T) {
	t.Parallel()
	b := setup(t, provider{})
	b.rows(t, many(35, "A")...)
	b.pub.setError(fault.New(fault.Unavailable, "broker_unavailable", "x"))
	n, err := b.in.Sweep(t.Context(), 10)
	require.NoError(t, err)
	require.Zero(t, n)
	var tried int
	require.NoError(t, b.pool.QueryRow(t.Context(), "select count(*) from outbox where attempts > 0").Scan(&tried))
	require.GreaterOrEqual(t, tried, 10)
	require.Less(t, tried, 35)
	b.pub.setError(nil)
	b.due(t)
	n, err = b.in.Sweep(t.Context(), 10)
	require.NoError(t, err)
	require.Equal(t, 35, n)
}

func TestBackoff(t *testing.T) {
	t.Parallel()
	for attempts, want := range map[int]time.Duration{1: 2 * time.Second, 2: 4 * time.Second, 4: 16 * time.Second, 5: 30 * time.Second, 1000: 30 * time.Second} {
		require.Equal(t, want, backoff(attempts, false))
	}
	require.Equal(t, 256*time.Second, backoff(8, true))
	require.Equal(t, 5*time.Minute, backoff(1000, true))
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	b := setup(t, provider{quote: quote(t, "AAPL")})
	set := metrics.NewSet()
	b.in.Observe(set)
	zeros := map[string]float64{}
	for _, outcome := range []string{
		"ok", "symbol_not_found", "provider_auth", "provider_malformed", "provider_rate_limited", "provider_timeout", "provider_unavailable",
	} {
		zeros[fmt.Sprintf("marketdata_provider_calls_total{provider=%q,outcome=%q}", "fake", outcome)] = 0
	}
	require.Equal(t, zeros, scrape.Values(t, set.WritePrometheus), "nothing of an outbox that it has not swept")
	_, err := b.in.Fetch(t.Context(), "fake", "AAPL")
	require.NoError(t, err)
	require.InDelta(t, 1, scrape.Values(t, set.WritePrometheus)[`marketdata_provider_calls_total{provider="fake",outcome="ok"}`], 0)
	b.empty(t)
	b.rows(t, "NEVER", "NEVER", "A")
	_, err = b.pool.Exec(t.Context(), "update outbox set created_at = now() - interval '1 hour' where id = (select min(id) from outbox)")
	require.NoError(t, err)
	_, err = b.in.Sweep(t.Context(), 10)
	require.NoError(t, err)
	require.InDelta(t, 2, scrape.Values(t, set.WritePrometheus)["marketdata_outbox_rows"], 0)
	require.InDelta(t, 3600, scrape.Values(t, set.WritePrometheus)["marketdata_outbox_oldest_age_seconds"], 60)
}

func TestStorageErrorIsUnavailable(t *testing.T) {
	t.Parallel()
	b := setup(t, provider{quote: quote(t, "AAPL")})
	_, err := b.pool.Exec(t.Context(), "alter table outbox rename to gone")
	require.NoError(t, err)
	_, err = b.in.Fetch(t.Context(), "fake", "AAPL")
	require.Equal(t, fault.Unavailable, fault.KindOf(err))
	require.Equal(t, "storage_unavailable", fault.CodeOf(err))
	_, err = b.in.store(t.Context(), item(t, b.in, "AAPL", make([]byte, alone+1)))
	require.Equal(t, "storage_unavailable", fault.CodeOf(err))
	_, err = b.in.Sweep(t.Context(), 10)
	require.Equal(t, "storage_unavailable", fault.CodeOf(err))
	require.Zero(t, b.count(t, "raw_responses"), "both or nothing")
	require.Empty(t, b.pub.records)
}

// A locked table does not block a request forever, and a quote that is not stored is not published.
func TestStoreTimesOut(t *testing.T) {
	t.Parallel()
	b := setup(t, provider{quote: quote(t, "AAPL")})
	tx, err := b.pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "lock table outbox in share mode")
	require.NoError(t, err)
	began := time.Now()
	_, err = b.in.Fetch(t.Context(), "fake", "AAPL")
	require.Equal(t, "storage_unavailable", fault.CodeOf(err))
	require.Less(t, time.Since(began), Overhead)
	require.NoError(t, tx.Rollback(t.Context()))
	require.Zero(t, b.count(t, "raw_responses"))
	require.Zero(t, b.count(t, "outbox"))
	require.Empty(t, b.pub.records)
}
