//go:build integration

package ingest

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"marketdata/shared/fault"
	"marketdata/shared/kafkaclient"
	"marketdata/shared/market"
	"marketdata/shared/priceevent"
	"marketdata/shared/testenv"
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
	refuse  string // key of records that are refused for ever
	records []kafkaclient.Record
}

func (p *publisher) Produce(_ context.Context, r kafkaclient.Record) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil || string(r.Key) == p.refuse {
		return errors.Join(errors.New("refused"), p.err)
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
	b := bundle{pool: testenv.Postgres(t), pub: &publisher{refuse: "NEVER"}}
	b.in = New(b.pool, b.pub, map[string]market.Provider{"fake": p}, slog.New(slog.DiscardHandler))
	return b
}

func (b bundle) count(t *testing.T, table string) (n int) {
	t.Helper()
	require.NoError(t, b.pool.QueryRow(t.Context(), "select count(*) from "+table).Scan(&n))
	return n
}

func TestFetchStoresAndPublishes(t *testing.T) {
	t.Parallel()
	b := setup(t, provider{quote: quote(t, "AAPL")})
	r, err := b.in.Fetch(t.Context(), "fake", "AAPL")
	require.NoError(t, err)
	require.Equal(t, 123456000, r.Quote.ObservedAt.Nanosecond(), "cut to what Postgres and the event can hold")
	require.Equal(t, 1, b.count(t, "raw_responses"))
	require.Zero(t, b.count(t, "outbox"))
	require.Len(t, b.pub.records, 1)
	o, err := priceevent.Decode(b.pub.records[0].Value, 0, time.Now())
	require.NoError(t, err)
	require.Equal(t, r.RawResponseID, o.RawResponseID)
	require.Equal(t, r.Quote.ObservedAt, o.ObservedAt)
}

func TestWhatTheConsumerWouldRefuseIsNotStored(t *testing.T) {
	t.Parallel()
	ahead := quote(t, "AAPL")
	ahead.ObservedAt = time.Now().Add(48 * time.Hour)
	b := setup(t, provider{quote: ahead})
	_, err := b.in.Fetch(t.Context(), "fake", "AAPL")
	require.Equal(t, "provider_malformed", fault.CodeOf(err))
	require.Zero(t, b.count(t, "raw_responses"))
	require.Zero(t, b.count(t, "outbox"))
	require.Empty(t, b.pub.records)
	_, err = b.in.Fetch(t.Context(), "nobody", "AAPL")
	require.Equal(t, "unknown_provider", fault.CodeOf(err))
}

func TestUnpublishedEventWaitsInTheOutboxForTheSweep(t *testing.T) {
	t.Parallel()
	b := setup(t, provider{quote: quote(t, "AAPL")})
	b.pub.setError(errors.New("broker is away"))
	_, err := b.in.Fetch(t.Context(), "fake", "AAPL")
	require.NoError(t, err, "what is stored is safe")
	require.Equal(t, 1, b.count(t, "outbox"))
	n, err := b.in.Sweep(t.Context(), 10)
	require.NoError(t, err)
	require.Zero(t, n, "not due: its publication is the fetcher's business for the first 10 s")
	b.due(t)
	n, err = b.in.Sweep(t.Context(), 10)
	require.NoError(t, err)
	require.Zero(t, n)
	require.Equal(t, 1, b.count(t, "outbox"), "never given up")
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
}

// due makes every row due, as time would.
func (b bundle) due(t *testing.T) {
	t.Helper()
	_, err := b.pool.Exec(t.Context(), "update outbox set next_attempt_at = now()")
	require.NoError(t, err)
}

func (b bundle) rows(t *testing.T, keys ...string) {
	t.Helper()
	for _, k := range keys {
		_, err := b.pool.Exec(t.Context(), "insert into outbox (topic, key, value, headers) values ('t', $1, 'v', '{}')", []byte(k))
		require.NoError(t, err)
	}
}

func TestNothingWaitsBehindARowThatIsRefusedForEver(t *testing.T) {
	t.Parallel()
	b := setup(t, provider{})
	b.rows(t, "A", "NEVER", "B")
	n, err := b.in.Sweep(t.Context(), 10)
	require.NoError(t, err)
	require.Equal(t, 2, n)
	var wait time.Duration
	require.NoError(t, b.pool.QueryRow(t.Context(), "select next_attempt_at - now() from outbox").Scan(&wait))
	require.Greater(t, wait, time.Second, "a back-off of its own")
	require.LessOrEqual(t, wait, 2*time.Second)
}

func TestTwoSweepersShareTheRows(t *testing.T) {
	t.Parallel()
	b := setup(t, provider{})
	keys := make([]string, 100)
	for i := range keys {
		keys[i] = string(rune('a'+i%26)) + time.Duration(i).String()
	}
	b.rows(t, keys...)
	var wg sync.WaitGroup
	errs := make(chan error, 2)
	for range 2 {
		wg.Go(func() {
			for {
				n, err := b.in.Sweep(context.Background(), 7)
				if err != nil || n == 0 {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	require.NoError(t, <-errs)
	require.NoError(t, <-errs)
	seen := map[string]int{}
	for _, r := range b.pub.records {
		seen[string(r.Key)]++
	}
	require.Len(t, seen, 100)
	require.Len(t, b.pub.records, 100, "none twice while nobody dies")
	require.Zero(t, b.count(t, "outbox"))
}

func TestStorageTroubleIsUnavailable(t *testing.T) {
	t.Parallel()
	b := setup(t, provider{quote: quote(t, "AAPL")})
	_, err := b.pool.Exec(t.Context(), "alter table outbox rename to away")
	require.NoError(t, err)
	_, err = b.in.Fetch(t.Context(), "fake", "AAPL")
	require.Equal(t, fault.Unavailable, fault.KindOf(err))
	require.Equal(t, "storage_unavailable", fault.CodeOf(err))
	require.Zero(t, b.count(t, "raw_responses"), "both or nothing")
	require.Empty(t, b.pub.records)
}
