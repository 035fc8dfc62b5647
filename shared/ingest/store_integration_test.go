//go:build integration

package ingest

import (
	"bytes"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"marketdata/shared/fault"
	"marketdata/shared/kafkaclient"
	"marketdata/shared/market"
	"marketdata/shared/priceevent"
	"marketdata/shared/testenv"
	"marketdata/shared/trace"
)

// item returns the item that one fetch stores.
func item(t *testing.T, in *Ingester, symbol market.Symbol, body []byte) stored {
	t.Helper()
	q := quote(t, symbol)
	id, err := uuid.NewV7()
	require.NoError(t, err)
	o := priceevent.Observation{Symbol: symbol, Provider: "fake", Price: q.Price, ObservedAt: q.ObservedAt.Truncate(time.Microsecond), RawResponseID: id}
	r, err := in.record(t.Context(), o)
	require.NoError(t, err)
	return stored{o, market.Response{Status: 200, Body: body, ReceivedAt: time.Now()}, r, trace.Span{}}
}

// hold locks the outbox until release is called.
func (b bundle) hold(t *testing.T) (release func()) {
	t.Helper()
	tx, err := b.pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "lock table outbox in share mode")
	require.NoError(t, err)
	return func() { require.NoError(t, tx.Rollback(t.Context())) }
}

// blocked waits until at least as many statements wait for the lock.
func (b bundle) blocked(t *testing.T, statements int) {
	t.Helper()
	require.Eventually(t, func() bool {
		var n int
		require.NoError(t, b.pool.QueryRow(t.Context(),
			"select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()").Scan(&n))
		return n >= statements
	}, 2*time.Second, time.Millisecond)
}

// Quotes that are stored at the same time share transactions, but each has its own rows: the outbox rows of acknowledged events are
// deleted, the other stays.
func TestFetchesInFlightShareATransaction(t *testing.T) {
	t.Parallel()
	b := setup(t, provider{})
	release := b.hold(t)
	items := make([]stored, 60)
	ids := make([]int64, len(items))
	var wg sync.WaitGroup
	for i := range items {
		items[i] = item(t, b.in, market.Symbol(fmt.Sprint("S", i)), fmt.Append(nil, "body ", i))
		wg.Go(func() {
			id, err := b.in.store(t.Context(), items[i])
			if err == nil {
				ids[i] = id
			}
		})
		if i == 0 {
			b.blocked(t, 1)
		}
	}
	release()
	wg.Wait()
	var transactions int
	require.NoError(t, b.pool.QueryRow(t.Context(), "select count(distinct xmin::text) from outbox").Scan(&transactions))
	require.Less(t, transactions, 20)
	for i, id := range ids {
		var key, body string
		require.NoError(t, b.pool.QueryRow(t.Context(), `
			select convert_from(key, 'UTF8'), convert_from(body, 'UTF8')
			from outbox, raw_responses r
			where outbox.id = $1 and r.id = $2`, id, items[i].observation.RawResponseID).Scan(&key, &body))
		require.Equal(t, string(items[i].observation.Symbol), key)
		require.Equal(t, fmt.Sprint("body ", i), body)
	}
	for _, id := range ids[1:] {
		b.in.forget(t.Context(), id)
	}
	require.Eventually(t, func() bool { return b.count(t, "outbox") == 1 }, 5*time.Second, time.Millisecond)
	var left int64
	require.NoError(t, b.pool.QueryRow(t.Context(), "select id from outbox").Scan(&left))
	require.Equal(t, ids[0], left)
}

// A batch of large responses would be in memory several times.
func TestLargeResponsesDoNotShareATransaction(t *testing.T) {
	t.Parallel()
	b := setup(t, provider{})
	release := b.hold(t)
	const large = 2 // the pool has four connections
	errs := make(chan error, large)
	for range large {
		one := item(t, b.in, "AAPL", make([]byte, alone+1))
		go func() {
			_, err := b.in.store(t.Context(), one)
			errs <- err
		}()
	}
	b.blocked(t, large)
	release()
	for range large {
		require.NoError(t, <-errs)
	}
}

// A quote that Postgres refuses does not fail the others of its transaction.
func TestRefusedQuoteFailsNoOther(t *testing.T) {
	t.Parallel()
	b := setup(t, provider{})
	release := b.hold(t)
	var wg sync.WaitGroup
	errs := make([]error, 11)
	for i := range errs {
		one := item(t, b.in, "AAPL", []byte("body"))
		if i == 5 {
			one.observation.Provider = "no\x00text"
		}
		wg.Go(func() { _, errs[i] = b.in.store(t.Context(), one) })
		if i == 0 {
			b.blocked(t, 1)
		}
	}
	release()
	wg.Wait()
	for i, err := range errs {
		if i == 5 {
			require.Equal(t, fault.CodeStorageUnavailable, fault.CodeOf(err))
			require.Equal(t, fault.Unavailable, fault.KindOf(err), "the values were validated, so it is not the client's fault")
			continue
		}
		require.NoError(t, err)
	}
	require.Equal(t, 10, b.count(t, "raw_responses"))
	require.Equal(t, 10, b.count(t, "outbox"))
}

// A pooler may not support prepared statements: every exec mode stores the same bytes.
func TestStoreInEveryExecMode(t *testing.T) {
	t.Parallel()
	for _, mode := range []pgx.QueryExecMode{
		pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol,
	} {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			config := testenv.Postgres(t).Config()
			config.ConnConfig.DefaultQueryExecMode = mode
			pool, err := pgxpool.NewWithConfig(t.Context(), config)
			require.NoError(t, err)
			t.Cleanup(pool.Close)
			in := New(pool, &publisher{}, "price-events", nil, slog.New(slog.DiscardHandler))
			t.Cleanup(in.Close)
			for _, body := range [][]byte{{}, []byte("\x00\xff'\"\\{},\n"), bytes.Repeat([]byte("x"), alone+1)} {
				one := item(t, in, "A^=/", body)
				one.record.Headers = append(one.record.Headers, kafkaclient.Header{Name: "traceparent", Value: []byte(`"\{}`)})
				id, err := in.store(t.Context(), one)
				require.NoError(t, err)
				var got []byte
				var trace string
				require.NoError(t, pool.QueryRow(t.Context(), `
					select body, headers->>'traceparent'
					from raw_responses r, outbox o
					where r.id = $1 and o.id = $2`, one.observation.RawResponseID.String(), id).Scan(&got, &trace))
				require.Equal(t, body, got)
				require.Equal(t, `"\{}`, trace)
				in.forget(t.Context(), id)
				bundle{pool: pool}.empty(t)
			}
		})
	}
}

// A sweep claims no more rows than it has slots for: of more, the last would wait for ever. A table that had one row when it was last
// analyzed makes Postgres execute a subquery in IN once for every row.
func TestLimitsHoldInEveryPlan(t *testing.T) {
	t.Parallel()
	b := setup(t, provider{})
	fill := func(rows int) {
		for _, q := range []string{
			"insert into outbox (topic, key, value, headers) select 'x', 'x', 'x', '{}' from generate_series(1, $1::int)",
			`insert into raw_responses (id, provider, symbol, status, body, received_at)
			select gen_random_uuid(), 'fake', 'AAPL', 200, 'x', now() - interval '1 day' from generate_series(1, $1::int)`,
		} {
			_, err := b.pool.Exec(t.Context(), q, rows)
			require.NoError(t, err)
		}
	}
	fill(1)
	_, err := b.pool.Exec(t.Context(), "analyze outbox, raw_responses")
	require.NoError(t, err)
	fill(50)
	const limit = 3
	claimed, err := b.in.claim(t.Context(), limit)
	require.NoError(t, err)
	require.Len(t, claimed, limit)
	dropped, err := b.in.DropBodies(t.Context(), time.Hour, limit)
	require.NoError(t, err)
	require.EqualValues(t, limit, dropped)
}

// A quote without a time gets the planned one, so that a plan that is carried out twice makes one point. A quote's own time is
// kept.
func TestUndatedQuoteIsObservedAsPlanned(t *testing.T) {
	t.Parallel()
	undated := quote(t, "AAPL")
	undated.Undated = true
	planned := time.Date(2024, 3, 20, 10, 29, 55, 123456789, time.UTC)
	for name, c := range map[string]struct {
		quote   market.Quote
		planned time.Time
		want    time.Time
	}{
		"undated and planned": {undated, planned, planned.Truncate(time.Microsecond)},
		"undated, no plan":    {undated, time.Time{}, undated.ObservedAt.Truncate(time.Microsecond)},
		"dated":               {quote(t, "AAPL"), planned, undated.ObservedAt.Truncate(time.Microsecond)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, provider{quote: c.quote})
			r, err := b.in.FetchReserved(t.Context(), c.planned, "fake", "AAPL")
			require.NoError(t, err)
			require.Equal(t, c.want, r.Quote.ObservedAt)
			b.acknowledged(t)
			o, err := priceevent.Decode(b.pub.records[0].Value, 0, time.Now())
			require.NoError(t, err)
			require.Equal(t, c.want, o.ObservedAt)
		})
	}
}

// A quote from far ahead of our clock would stay the newest until then.
func TestQuoteFromTheFutureIsObservedNow(t *testing.T) {
	t.Parallel()
	now := time.Date(2024, 3, 20, 10, 30, 0, 0, time.UTC)
	for ahead, want := range map[time.Duration]time.Duration{
		-time.Hour: -time.Hour, 5 * time.Minute: 5 * time.Minute, 5*time.Minute + time.Microsecond: 0, 5 * time.Hour: 0, 48 * time.Hour: 0,
		200 * 365 * 24 * time.Hour: 0,
	} {
		t.Run(ahead.String(), func(t *testing.T) {
			t.Parallel()
			q := quote(t, "AAPL")
			q.ObservedAt = now.Add(ahead)
			b := setup(t, provider{quote: q})
			b.in.now = func() time.Time { return now }
			r, err := b.in.Fetch(t.Context(), "fake", "AAPL")
			require.NoError(t, err)
			require.Equal(t, now.Add(want), r.Quote.ObservedAt)
			b.acknowledged(t)
			o, err := priceevent.Decode(b.pub.records[0].Value, 0, now)
			require.NoError(t, err)
			require.Equal(t, now.Add(want), o.ObservedAt)
		})
	}
}
