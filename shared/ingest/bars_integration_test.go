//go:build integration

package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"marketdata/shared/fault"
	"marketdata/shared/market"
	"marketdata/shared/priceevent"
	"marketdata/shared/testenv"
)

func manyBars(t *testing.T, n int) Bars {
	t.Helper()
	b := Bars{Symbol: "AAPL", Series: "fake-1d", Response: market.Response{Status: 200, Body: []byte("raw"), ReceivedAt: time.Now()}}
	for i := range n {
		p, err := market.ParsePrice(fmt.Sprint(i + 1))
		require.NoError(t, err)
		b.Bars = append(b.Bars, market.Bar{Start: time.Unix(0, 0).UTC().AddDate(0, 0, i), Close: p, Final: true})
	}
	return b
}

func kept(id uuid.UUID) func(context.Context, pgx.Tx) (uuid.UUID, error) {
	return func(context.Context, pgx.Tx) (uuid.UUID, error) { return id, nil }
}

// One answer makes one raw response and an event for each bar, all of which are published.
func TestBars(t *testing.T) {
	t.Parallel()
	b := setup(t, provider{})
	id := uuid.New()
	const n = 2*barsAtOnce + 7
	require.NoError(t, b.in.StoreBars(t.Context(), manyBars(t, n), kept(id)))
	b.empty(t)
	require.Len(t, b.pub.records, n)
	seen := map[string]bool{}
	for _, r := range b.pub.records {
		o, err := priceevent.Decode(r.Value, 0, time.Now())
		require.NoError(t, err)
		require.Equal(t, id, o.RawResponseID)
		require.Equal(t, "fake-1d", o.Provider)
		require.Equal(t, fmt.Sprint(int(o.ObservedAt.Sub(time.Unix(0, 0)).Hours())/24+1), o.Price.String())
		seen[o.ID()] = true
	}
	require.Len(t, seen, n)
	require.Equal(t, 1, b.count(t, "raw_responses where provider = 'fake-1d'"))
}

// If the caller's progress cannot be stored, nothing is; without bars there is no raw response.
func TestBarsAreStoredWithTheProgressOfTheCaller(t *testing.T) {
	t.Parallel()
	b := setup(t, provider{})
	lost := fault.New(fault.NotFound, fault.CodeNotFound, "x")
	refuse := func(err error) func(context.Context, pgx.Tx) (uuid.UUID, error) {
		return func(context.Context, pgx.Tx) (uuid.UUID, error) { return uuid.Nil, err }
	}
	require.Equal(t, lost, b.in.StoreBars(t.Context(), manyBars(t, 3), refuse(lost)), "unchanged")
	require.Equal(t, fault.CodeStorageUnavailable, fault.CodeOf(b.in.StoreBars(t.Context(), manyBars(t, 3), refuse(errors.New("x")))))
	require.NoError(t, b.in.StoreBars(t.Context(), manyBars(t, 0), kept(uuid.New())))
	odd := manyBars(t, 3)
	odd.Bars[1].Start = time.Unix(-1, 0)
	require.Equal(t, fault.CodeProviderMalformed, fault.CodeOf(b.in.StoreBars(t.Context(), odd, kept(uuid.New()))))
	require.Zero(t, b.count(t, "outbox"))
	require.Zero(t, b.count(t, "raw_responses"))
	require.Empty(t, b.pub.records)
}

// While the broker does not answer, bars do not wait for it one after the other: the sweep publishes them.
func TestBarsThatTheBrokerDoesNotTake(t *testing.T) {
	t.Parallel()
	b := setup(t, provider{})
	b.pub.setError(errors.New("down"))
	const n = 5000
	require.NoError(t, b.in.StoreBars(t.Context(), manyBars(t, n), kept(uuid.New())))
	require.Equal(t, n, b.count(t, "outbox"))
	require.LessOrEqual(t, b.pub.asked(), publishAtOnce, "one error is enough")
	require.Zero(t, b.count(t, "outbox where next_attempt_at < now() + interval '5 seconds'"), "a sweep leaves them to this process at first")
}

// A caller that ends does not wait for a broker that hangs. The sweep publishes what is left.
func TestBarsDoNotHoldUpACallerThatEnds(t *testing.T) {
	t.Parallel()
	b := setup(t, provider{})
	b.in.publishingBars = make(chan struct{}, 3)
	hanging := manyBars(t, 5)
	hanging.Symbol = "HANG"
	ctx, leave := context.WithCancel(t.Context())
	require.NoError(t, b.in.StoreBars(ctx, hanging, func(context.Context, pgx.Tx) (uuid.UUID, error) {
		time.AfterFunc(publishWait/4, leave)
		return uuid.New(), nil
	}))
	require.Error(t, ctx.Err(), "it waited for a slot, and its caller ended")
	require.Equal(t, 3, b.pub.asked())
	require.Equal(t, 5, b.count(t, "outbox"))
}

// A transaction that has to be repeated, wherever it failed, stores and publishes each bar once.
func TestBarsOfARepeatedTransaction(t *testing.T) {
	t.Parallel()
	for name, trigger := range map[string]string{
		"response": "create trigger fail_once after insert on raw_responses for each row execute function fail_once()",
		"events":   "create trigger fail_once after insert on outbox for each row execute function fail_once()",
		"commit":   "create constraint trigger fail_once after insert on raw_responses deferrable initially deferred for each row execute function fail_once()",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, provider{})
			b.exec(t, `
				create sequence attempts;
				create function fail_once() returns trigger language plpgsql as $$
				begin
					if nextval('attempts') = 1 then raise exception 'x' using errcode = 'serialization_failure'; end if;
					return null;
				end $$;`+trigger)
			attempts := 0
			require.NoError(t, b.in.StoreBars(t.Context(), manyBars(t, 3), func(context.Context, pgx.Tx) (uuid.UUID, error) {
				attempts++
				return uuid.New(), nil
			}))
			require.Equal(t, 2, attempts)
			b.empty(t)
			require.Len(t, b.pub.records, 3)
			require.Equal(t, 1, b.count(t, "raw_responses"))
		})
	}
}

// Events that are under way when their caller ends are published all the same.
func TestBarsOutliveTheirCaller(t *testing.T) {
	t.Parallel()
	pool, pub := testenv.Postgres(t), &publisher{slow: 50 * time.Millisecond}
	in := New(pool, pub, "price-events", nil, slog.New(slog.DiscardHandler))
	ctx, leave := context.WithCancel(t.Context())
	require.NoError(t, in.StoreBars(ctx, manyBars(t, 100), kept(uuid.New())))
	leave()
	in.Close()
	require.Len(t, pub.records, 100)
	require.Zero(t, bundle{pool: pool}.count(t, "outbox"))
}
