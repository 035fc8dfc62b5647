package flight

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"marketdata/shared/fault"
	"marketdata/shared/ingest"
	"marketdata/shared/market"
	"marketdata/shared/pricecache"
)

var rawID = uuid.MustParse("0190f5d8-0000-7000-8000-000000000001")

// bundle holds several replicas that share a Redis, whose clock only the test moves.
type bundle struct {
	server   *miniredis.Miniredis
	cache    *pricecache.Cache
	replicas []*Group
	calls    atomic.Int64
	started  chan struct{} // receives from each fetch as it begins
	result   chan error    // ends one fetch in flight: with this error, or with a price if it is nil
	log      bytes.Buffer  // of all replicas
}

func setup(t *testing.T, replicas int, timeout time.Duration) *bundle {
	t.Helper()
	b := &bundle{server: miniredis.RunT(t), started: make(chan struct{}, 100), result: make(chan error)}
	log := slog.New(slog.NewTextHandler(&b.log, nil))
	for range replicas {
		client := redis.NewClient(&redis.Options{Addr: b.server.Addr(), MaxRetries: -1, ContextTimeoutEnabled: true, DialerRetries: 1})
		t.Cleanup(func() { require.NoError(t, client.Close()) })
		b.cache = pricecache.New(client, "price:", time.Minute, 10*time.Minute)
		b.replicas = append(b.replicas, New(client, "flight:", b.cache, b.fetch, timeout, log))
	}
	t.Cleanup(func() {
		for _, g := range b.replicas {
			g.Close()
		}
	})
	return b
}

// fetch waits for a result from the test.
func (b *bundle) fetch(ctx context.Context, provider string, symbol market.Symbol) (ingest.Result, error) {
	b.calls.Add(1)
	b.started <- struct{}{}
	select {
	case err := <-b.result:
		if err != nil {
			return ingest.Result{}, err
		}
	case <-ctx.Done():
		return ingest.Result{}, fault.Wrap(ctx.Err(), fault.Unavailable, "provider_timeout", "x")
	}
	return ingest.Result{Quote: quoteOf(provider, symbol), RawResponseID: rawID}, nil
}

func quoteOf(provider string, symbol market.Symbol) market.Quote {
	price, err := market.ParsePrice("150.25")
	if err != nil {
		panic(err)
	}
	return market.Quote{Symbol: symbol, Provider: provider, Price: price, ObservedAt: time.UnixMicro(1).UTC()}
}

// leave calls the first replica, and cancels the call once it fetches.
func (b *bundle) leave(t *testing.T) {
	t.Helper()
	ctx, leave := context.WithCancel(t.Context())
	errs := make(chan error, 1)
	go func() {
		_, err := b.replicas[0].Do(ctx, "yfinance", "AAPL")
		errs <- err
	}()
	<-b.started
	leave()
	require.Equal(t, "client_closed", fault.CodeOf(<-errs))
}

// ask makes n calls on each replica at once and returns their results.
func (b *bundle) ask(t *testing.T, n int) <-chan error {
	t.Helper()
	results := make(chan error, n*len(b.replicas))
	var wg sync.WaitGroup
	for _, g := range b.replicas {
		for range n {
			wg.Go(func() {
				entry, err := g.Do(t.Context(), "yfinance", "AAPL")
				if err == nil && entry.RawResponseID != rawID {
					err = errors.New("another price")
				}
				results <- err
			})
		}
	}
	go func() { wg.Wait(); close(results) }()
	return results
}

func TestOneFetchForAllCallersOfAllReplicas(t *testing.T) {
	t.Parallel()
	b := setup(t, 3, time.Minute)
	results := b.ask(t, 50)
	<-b.started
	b.result <- nil
	for err := range results {
		require.NoError(t, err)
	}
	require.EqualValues(t, 1, b.calls.Load())
	require.Equal(t, []string{"price:yfinance:AAPL"}, b.server.Keys(), "the lock is released")
}

func TestErrorIsSharedForTwoSeconds(t *testing.T) {
	t.Parallel()
	b := setup(t, 3, time.Minute)
	outage := fault.Wrap(errors.New("secret cause"), fault.Unavailable, "provider_rate_limited", "100%% spent").After(1500 * time.Millisecond)
	results := b.ask(t, 20)
	<-b.started
	b.result <- outage
	shared := 0
	for err := range results {
		require.Equal(t, "provider_rate_limited", fault.CodeOf(err))
		require.Equal(t, fault.Unavailable, fault.KindOf(err))
		f, ok := fault.As(err)
		require.True(t, ok)
		require.Equal(t, "100% spent", f.Detail)
		require.Equal(t, 1500*time.Millisecond, f.RetryAfter)
		if f.Unwrap() == nil {
			shared++
		}
	}
	require.GreaterOrEqual(t, shared, 40, "the other replicas get the error without its cause")
	text, err := b.server.Get("flight:failure:yfinance:AAPL")
	require.NoError(t, err)
	require.NotContains(t, text, "secret")
	b.server.FastForward(1999 * time.Millisecond)
	for err := range b.ask(t, 20) {
		require.Equal(t, "provider_rate_limited", fault.CodeOf(err))
	}
	require.EqualValues(t, 1, b.calls.Load())
	b.server.FastForward(time.Millisecond)
	results = b.ask(t, 20)
	b.result <- nil
	for err := range results {
		require.NoError(t, err)
	}
	require.EqualValues(t, 2, b.calls.Load())
	require.Empty(t, b.log.String())
}

func TestOneReplicaTakesOverFromADeadHolder(t *testing.T) {
	t.Parallel()
	b := setup(t, 3, time.Minute)
	g := b.replicas[0]
	// A replica that was killed while it held the lock.
	dead, err := g.locks.look(t.Context(), series{"yfinance", "AAPL"}, "dead")
	require.NoError(t, err)
	require.True(t, dead.held)
	require.Greater(t, g.MaxWait(), g.locks.lease+time.Minute, "the holder may die at once, and its successor may take all its time")
	results := b.ask(t, 20)
	b.server.FastForward(g.locks.lease - time.Millisecond)
	require.Never(t, func() bool { return b.calls.Load() > 0 }, 5*lookEvery, lookEvery)
	b.server.FastForward(time.Millisecond)
	<-b.started
	b.result <- nil
	for err := range results {
		require.NoError(t, err)
	}
	require.EqualValues(t, 1, b.calls.Load())
}

func TestHolderSlowerThanItsLeaseChangesNothing(t *testing.T) {
	t.Parallel()
	b := setup(t, 1, time.Minute)
	l, s := b.replicas[0].locks, series{"yfinance", "AAPL"}
	first, err := l.look(t.Context(), s, "first")
	require.NoError(t, err)
	require.True(t, first.held)
	b.server.FastForward(l.lease)
	second, err := l.look(t.Context(), s, "second")
	require.NoError(t, err)
	require.True(t, second.held)
	require.NoError(t, l.free(t.Context(), s, "first", errors.New("late")))
	third, err := l.look(t.Context(), s, "third")
	require.NoError(t, err)
	require.False(t, third.held, "the second still holds the lock")
	require.NoError(t, third.failure)
}

func TestPriceStoredMeanwhileIsUsed(t *testing.T) {
	t.Parallel()
	b := setup(t, 1, time.Minute)
	go func() { b.result <- nil }()
	fetched, err := b.fetch(t.Context(), "yfinance", "AAPL") // as a poll would
	require.NoError(t, err)
	_, err = b.cache.Put(t.Context(), fetched.Quote, fetched.RawResponseID)
	require.NoError(t, err)
	entry, err := b.replicas[0].Do(t.Context(), "yfinance", "AAPL")
	require.NoError(t, err)
	require.Positive(t, entry.Left)
	require.EqualValues(t, 1, b.calls.Load())
	require.Equal(t, []string{"price:yfinance:AAPL"}, b.server.Keys())
}

func TestRedisErrorFailsNoRequest(t *testing.T) {
	t.Parallel()
	b := setup(t, 1, time.Minute)
	b.server.Close()
	const callers = 50
	results := b.ask(t, callers)
	<-b.started
	// Without Redis, a call that begins after a fetch has ended starts another fetch: these get a result, too.
	served := make(chan struct{})
	defer close(served)
	go func() {
		for {
			select {
			case b.result <- nil:
			case <-served:
				return
			}
		}
	}()
	for err := range results {
		require.NoError(t, err)
	}
	require.Less(t, b.calls.Load(), int64(callers), "callers within one replica still share fetches")
}

func TestFetchOutlivesACallerThatGoesAway(t *testing.T) {
	t.Parallel()
	b := setup(t, 1, time.Minute)
	b.leave(t)
	results := b.ask(t, 5)
	b.result <- nil
	for err := range results {
		require.NoError(t, err)
	}
	require.EqualValues(t, 1, b.calls.Load())
}

// The lock outlives the slowest fetch, so that no other replica fetches at the same time.
func TestLockOutlivesTheSlowestFetch(t *testing.T) {
	t.Parallel()
	b := setup(t, 1, time.Minute)
	b.leave(t)
	b.server.FastForward(time.Minute)
	require.True(t, b.server.Exists("flight:lock:yfinance:AAPL"))
}

// A price that arrives at the last moment is cached, because other replicas wait for it.
func TestPriceThatTookAllItsTimeIsCached(t *testing.T) {
	t.Parallel()
	b := setup(t, 1, 10*time.Millisecond)
	b.replicas[0].fetch = func(ctx context.Context, provider string, symbol market.Symbol) (ingest.Result, error) {
		<-ctx.Done()
		go func() { b.result <- nil }()
		return b.fetch(context.WithoutCancel(ctx), provider, symbol)
	}
	for range 2 { // the first write loads the script into Redis
		b.server.Del("price:yfinance:AAPL")
		_, err := b.replicas[0].Do(t.Context(), "yfinance", "AAPL")
		require.NoError(t, err)
		require.Equal(t, []string{"price:yfinance:AAPL"}, b.server.Keys())
	}
}

func TestWaitIsBounded(t *testing.T) {
	t.Parallel()
	b := setup(t, 1, 50*time.Millisecond)
	g := b.replicas[0]
	_, err := g.locks.look(t.Context(), series{"yfinance", "AAPL"}, "another") // its lease never expires: Redis' clock stands still
	require.NoError(t, err)
	began := time.Now()
	_, err = g.Do(t.Context(), "yfinance", "AAPL")
	require.Equal(t, "provider_timeout", fault.CodeOf(err))
	require.InDelta(t, g.MaxWait(), time.Since(began), float64(time.Second))
	short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err = g.Do(short, "yfinance", "AAPL")
	require.Equal(t, "provider_timeout", fault.CodeOf(err), "the caller's own deadline")
	require.Zero(t, b.calls.Load())
}

func TestCloseHandsTheFetchToAnotherReplica(t *testing.T) {
	t.Parallel()
	b := setup(t, 2, time.Minute)
	b.leave(t)
	lock := b.replicas[0].locks.keys(series{"yfinance", "AAPL"})[0]
	require.True(t, b.server.Exists(lock))
	b.replicas[0].Close()
	require.False(t, b.server.Exists(lock), "Close returns once the lock is free")
	b.replicas = b.replicas[1:]
	results := b.ask(t, 3)
	<-b.started
	b.result <- nil
	for err := range results {
		require.NoError(t, err, "the error of a cancelled fetch is not shared")
	}
	require.EqualValues(t, 2, b.calls.Load())
}

func TestPanicIsAnError(t *testing.T) {
	t.Parallel()
	b := setup(t, 1, time.Minute)
	b.replicas[0].fetch = func(context.Context, string, market.Symbol) (ingest.Result, error) { panic("boom") }
	_, err := b.replicas[0].Do(t.Context(), "yfinance", "AAPL")
	require.ErrorContains(t, err, "boom")
	require.Equal(t, fault.Internal, fault.KindOf(err))
}

func TestFailuresOnTheWire(t *testing.T) {
	t.Parallel()
	for _, err := range []error{
		fault.New(fault.NotFound, "symbol_not_found", "no %s", "AAPL"),
		fmt.Errorf("fetch: %w", fault.Wrap(errors.New("cause"), fault.Unavailable, "provider_auth", "x").After(time.Second)),
		errors.New("password=hunter2"),
	} {
		text := encodeFailure(err)
		require.NotContains(t, text, "hunter2")
		require.NotContains(t, text, "cause")
		got := decodeFailure(text)
		require.Equal(t, fault.KindOf(err), fault.KindOf(got))
		require.Equal(t, fault.CodeOf(err), fault.CodeOf(got))
	}
	for _, text := range []string{"{junk", "", `{}`, `{"code":"symbol_not_found","kind":"none"}`} {
		got := decodeFailure(text)
		require.Equal(t, fault.Unavailable, fault.KindOf(got), text)
		require.Equal(t, fault.CodeProviderUnavailable, fault.CodeOf(got), text)
	}
}

// A provider that is slow takes turns from no other one, and its prices beyond a number are refused soon.
func TestASlowProviderKeepsNoOtherWaiting(t *testing.T) {
	t.Parallel()
	b := setup(t, 1, time.Minute)
	g := b.replicas[0]
	var waiting sync.WaitGroup
	for i := range together {
		waiting.Go(func() {
			if _, err := g.Do(t.Context(), "slow", market.Symbol(fmt.Sprint("S", i))); err != nil {
				t.Error(err)
			}
		})
		<-b.started
	}
	_, err := g.Do(t.Context(), "slow", "ONE-MORE")
	require.Equal(t, fault.CodeOverloaded, fault.CodeOf(err))
	require.EqualValues(t, together, b.calls.Load())
	waiting.Go(func() {
		if _, err := g.Do(t.Context(), "other", "AAPL"); err != nil {
			t.Error(err)
		}
	})
	<-b.started
	for range together + 1 {
		b.result <- nil
	}
	waiting.Wait()
	waiting.Go(func() { b.result <- nil })
	_, err = g.Do(t.Context(), "slow", "ONE-MORE")
	require.NoError(t, err)
	waiting.Wait()
}
