package fetch

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"marketdata/functions/poll/internal/jobs"
	"marketdata/functions/poll/internal/polltest"
	"marketdata/shared/fault"
	"marketdata/shared/market"
	"marketdata/shared/pricecache"
)

type unit struct {
	*Fetcher
	ingest *polltest.Ingest
	log    bytes.Buffer

	mu      sync.Mutex
	counted map[string]int // by provider and outcome, with a space between them
}

func newUnit() *unit {
	u := &unit{ingest: &polltest.Ingest{}, counted: map[string]int{}}
	u.Fetcher = New(Config{
		Budget: u.ingest, Ingest: u.ingest, Cache: polltest.NoCache{}, Chain: []string{"first", "second"},
		Log: slog.New(slog.NewTextHandler(&u.log, nil)),
		Count: func(provider string, o jobs.Outcome) {
			u.mu.Lock()
			defer u.mu.Unlock()
			u.counted[provider+" "+string(o)]++
		},
	})
	return u
}

// fetch starts a fetch of each symbol in turn, and returns their results once all are done.
func (u *unit) fetch(ctx context.Context, provider string, symbols ...market.Symbol) map[market.Symbol]Result {
	return u.collect(symbols, func(wg *sync.WaitGroup, r Request, done func(Result)) { u.Start(ctx, wg, provider, r, done) })
}

// auto does the same with the chain, while nobody else is fetching the series.
func (u *unit) auto(ctx context.Context, symbols ...market.Symbol) map[market.Symbol]Result {
	alone := func(_ string, fetch func() Result) Result { return fetch() }
	return u.collect(symbols, func(wg *sync.WaitGroup, r Request, done func(Result)) { u.StartAuto(ctx, wg, r, alone, done) })
}

func (u *unit) collect(symbols []market.Symbol, start func(wg *sync.WaitGroup, r Request, done func(Result))) map[market.Symbol]Result {
	var mu sync.Mutex
	var wg sync.WaitGroup
	results := map[market.Symbol]Result{}
	for _, s := range symbols {
		start(&wg, Request{Symbol: s, Planned: time.Now()}, func(r Result) {
			mu.Lock()
			defer mu.Unlock()
			results[s] = r
		})
	}
	wg.Wait()
	return results
}

func count(results map[market.Symbol]Result) map[jobs.Outcome]int {
	n := map[jobs.Outcome]int{}
	for _, r := range results {
		n[r.Outcome]++
	}
	return n
}

func TestAQuoteIsTheResult(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := newUnit()
		r := u.fetch(t.Context(), "p", "AAPL")["AAPL"]
		price, err := market.ParsePrice("1.5")
		require.NoError(t, err)
		require.Equal(t, Result{Asked: true, Result: jobs.Result{
			Symbol: "AAPL", Outcome: jobs.OK, Provider: "p", Price: price, ObservedAt: time.Now().UTC(),
		}}, r)
		require.Equal(t, map[string]int{"p ok": 1}, u.counted)
		require.True(t, time.Now().Equal(u.ingest.Planned["AAPL"]))
		require.Empty(t, u.log.String())
	})
}

// Each kind of failure has its code, is counted and logged once, and says whether a provider was asked, and whether it is away.
func TestFailures(t *testing.T) {
	t.Parallel()
	unavailable := func(code string) error { return fault.New(fault.Unavailable, code, "x") }
	for name, c := range map[string]struct {
		room, answer error
		want         jobs.Outcome
		asked        bool
		outage       bool
	}{
		"unknown symbol":                   {nil, fault.New(fault.NotFound, fault.CodeSymbolNotFound, "x"), "symbol_not_found", true, false},
		"malformed answer":                 {nil, unavailable(fault.CodeProviderMalformed), "provider_malformed", true, false},
		"refused key":                      {nil, unavailable(fault.CodeProviderAuth), "provider_auth", true, false},
		"provider away":                    {nil, unavailable(fault.CodeProviderUnavailable), "provider_unavailable", true, true},
		"provider too slow":                {nil, unavailable(fault.CodeProviderTimeout), "provider_timeout", true, true},
		"provider's own 429":               {nil, polltest.Limited(time.Hour), "provider_rate_limited", false, true},
		"quote not stored":                 {nil, unavailable(fault.CodeStorageUnavailable), "storage_unavailable", true, false},
		"unclassified":                     {nil, errors.New("x"), "internal", true, false},
		"budget spent":                     {polltest.Limited(time.Hour), nil, "provider_rate_limited", false, false},
		"budget not counted":               {unavailable(fault.CodeStorageUnavailable), nil, "storage_unavailable", false, false},
		"budget that fails otherwise":      {errors.New("x"), nil, "internal", false, false},
		"provider that the budget has not": {fault.New(fault.Invalid, fault.CodeUnknownProvider, "x"), nil, "unknown_provider", false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				u := newUnit()
				u.ingest.Room = func(string) error { return c.room }
				u.ingest.Answer = func(context.Context, string, market.Symbol) error { return c.answer }
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				began := time.Now()
				r := u.fetch(ctx, "p", "AAPL")["AAPL"]
				require.Zero(t, time.Since(began))
				want := Result{Asked: c.asked, Outage: c.outage, Result: jobs.Result{Symbol: "AAPL", Outcome: c.want}}
				if c.want == fault.CodeProviderRateLimited && c.outage {
					want.RetryAfter = time.Hour
				}
				require.Equal(t, want, r)
				require.Equal(t, map[string]int{"p " + string(c.want): 1}, u.counted)
				require.Equal(t, 1, bytes.Count(u.log.Bytes(), []byte("fetch failed")), u.log.String())
				require.Contains(t, u.log.String(), "code="+string(c.want))
			})
		})
	}
}

func TestAPanicIsContained(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := newUnit()
		u.ingest.During = func(s market.Symbol) {
			switch s {
			case "AAPL":
				panic("GET /?apikey=hunter2")
			case "IBM":
				var none []int
				none[0]++
			}
		}
		began := time.Now()
		results := u.fetch(t.Context(), "p", "AAPL", "MSFT", "IBM")
		require.Equal(t, map[jobs.Outcome]int{"internal": 2, jobs.OK: 1}, count(results))
		require.Equal(t, jobs.OK, results["MSFT"].Outcome)
		require.True(t, results["AAPL"].Asked)
		require.Zero(t, time.Since(began))
		require.NotContains(t, u.log.String(), "hunter2", "the log does not show what the adapter was working with")
		require.Contains(t, u.log.String(), "index out of range")
		require.Len(t, u.fetch(t.Context(), "p", polltest.Symbols(2*Slots)...), 2*Slots, "the slots are free again")
	})
}

// cacheFunc is a cache.
type cacheFunc func(ctx context.Context, q market.Quote) error

func (f cacheFunc) Put(ctx context.Context, q market.Quote, _ uuid.UUID) (pricecache.Entry, error) {
	return pricecache.Entry{}, f(ctx, q)
}

// get-latest finds a quote in the cache even if the tick's time ended with the call. An unavailable cache fails no symbol.
func TestAQuoteIsCached(t *testing.T) {
	t.Parallel()
	u := newUnit()
	ctx, cancel := context.WithCancel(t.Context())
	u.ingest.During = func(market.Symbol) { cancel() }
	var cached []market.Symbol
	u.Cache = cacheFunc(func(ctx context.Context, q market.Quote) error {
		cached = append(cached, q.Symbol)
		require.NoError(t, ctx.Err())
		return errors.New("redis is away")
	})
	require.Equal(t, jobs.OK, u.fetch(ctx, "p", "AAPL")["AAPL"].Outcome)
	require.Equal(t, []market.Symbol{"AAPL"}, cached)
	require.Contains(t, u.log.String(), "redis is away")
}

// Of the failures of the chain, the one that the client can do most about is the result.
func TestAutoReturnsTheMostUsefulFailure(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		first, second string
		want          jobs.Outcome
		calls         int
	}{
		"not found, then away":          {fault.CodeSymbolNotFound, fault.CodeProviderUnavailable, fault.CodeProviderUnavailable, 2},
		"away, then not found":          {fault.CodeProviderTimeout, fault.CodeSymbolNotFound, fault.CodeProviderTimeout, 2},
		"malformed, then not found":     {fault.CodeProviderMalformed, fault.CodeSymbolNotFound, fault.CodeSymbolNotFound, 2},
		"refused key, then malformed":   {fault.CodeProviderAuth, fault.CodeProviderMalformed, fault.CodeProviderMalformed, 2},
		"not found, then limited":       {fault.CodeSymbolNotFound, fault.CodeProviderRateLimited, fault.CodeProviderRateLimited, 2},
		"of equals the first":           {fault.CodeProviderUnavailable, fault.CodeProviderTimeout, fault.CodeProviderUnavailable, 2},
		"of useless ones the first":     {fault.CodeProviderAuth, fault.CodeInternal, fault.CodeProviderAuth, 2},
		"storage away over all":         {fault.CodeProviderTimeout, fault.CodeStorageUnavailable, fault.CodeStorageUnavailable, 2},
		"storage away: nobody can help": {fault.CodeStorageUnavailable, fault.CodeSymbolNotFound, fault.CodeStorageUnavailable, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := newUnit()
			calls := 0
			u.ingest.Answer = func(_ context.Context, provider string, _ market.Symbol) error {
				calls++
				if provider == "first" {
					return fault.New(fault.Unavailable, c.first, "x")
				}
				return fault.New(fault.Unavailable, c.second, "x")
			}
			r := u.auto(t.Context(), "AAPL")["AAPL"]
			require.Equal(t, Result{Asked: true, Result: jobs.Result{Symbol: "AAPL", Outcome: c.want}}, r)
			require.Equal(t, c.calls, calls)
		})
	}
}

// A symbol was asked for if any provider of the chain was asked. Out of time beats what was found out before, and ends the chain.
func TestAutoSaysWhetherAnyProviderWasAsked(t *testing.T) {
	t.Parallel()
	notFound, spent := fault.New(fault.NotFound, fault.CodeSymbolNotFound, "x"), polltest.Limited(time.Hour)
	for name, c := range map[string]struct {
		first, second error // of the budgets
		asked         bool
	}{"both": {nil, nil, true}, "the first": {nil, spent, true}, "the second": {spent, nil, true}, "none": {spent, spent, false}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				u := newUnit()
				u.ingest.Room = func(provider string) error {
					if provider == "first" {
						return c.first
					}
					return c.second
				}
				u.ingest.Answer = func(context.Context, string, market.Symbol) error { return notFound }
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				require.Equal(t, c.asked, u.auto(ctx, "AAPL")["AAPL"].Asked)
			})
		})
	}
	u := newUnit()
	ctx, cancel := context.WithCancel(t.Context())
	u.Chain = []string{"first", "second", "third"}
	u.ingest.Answer = func(context.Context, string, market.Symbol) error { cancel(); return notFound }
	r := u.auto(ctx, "AAPL")["AAPL"]
	require.Equal(t, Result{Asked: true, Result: jobs.Result{Symbol: "AAPL", Outcome: jobs.OutOfTime}}, r)
	require.Equal(t, map[string]int{"first symbol_not_found": 1, "second out_of_time": 1}, u.counted)
}

// A series that an earlier fetch serves is not fetched again.
func TestAutoTakesSharedResults(t *testing.T) {
	t.Parallel()
	u := newUnit()
	var asked []string
	share := func(provider string, _ func() Result) Result {
		asked = append(asked, provider)
		if provider == "first" {
			return Result{Asked: true, Result: jobs.Result{Symbol: "AAPL", Outcome: fault.CodeProviderUnavailable}}
		}
		return Result{Asked: true, Result: jobs.Result{Symbol: "AAPL", Outcome: jobs.OK, Provider: provider}}
	}
	var got Result
	var wg sync.WaitGroup
	u.StartAuto(t.Context(), &wg, Request{Symbol: "AAPL"}, share, func(r Result) { got = r })
	wg.Wait()
	require.Equal(t, "second", got.Provider)
	require.Equal(t, []string{"first", "second"}, asked)
	require.Empty(t, u.ingest.Calls)
}

// Slots bound the calls of a provider that are in flight. Calls of one provider do not delay those of another.
func TestSlotsBoundCallsInFlight(t *testing.T) {
	t.Parallel()
	for name, fetch := range map[string]func(u *unit, ctx context.Context, symbols ...market.Symbol) map[market.Symbol]Result{
		"named provider": func(u *unit, ctx context.Context, symbols ...market.Symbol) map[market.Symbol]Result {
			return u.fetch(ctx, "first", symbols...)
		},
		"auto": (*unit).auto,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				u := newUnit()
				inFlight, most := 0, 0
				u.ingest.Answer = func(_ context.Context, provider string, _ market.Symbol) error {
					if provider == "other" {
						return nil
					}
					u.ingest.Lock()
					inFlight++
					most = max(most, inFlight)
					u.ingest.Unlock()
					time.Sleep(time.Second)
					u.ingest.Lock()
					inFlight--
					u.ingest.Unlock()
					return nil
				}
				began := time.Now()
				var wg sync.WaitGroup
				for range 2 { // two ticks
					wg.Go(func() { fetch(u, t.Context(), polltest.Symbols(2*Slots)...) })
				}
				time.Sleep(time.Millisecond)
				require.Equal(t, jobs.OK, u.fetch(t.Context(), "other", "AAPL")["AAPL"].Outcome)
				require.Equal(t, time.Millisecond, time.Since(began))
				wg.Wait()
				require.Equal(t, Slots, most)
				require.Equal(t, 4*time.Second, time.Since(began))
			})
		})
	}
}

// No call is made once the time is up: not at once, not after a wait for a slot, and not after a wait for the budget.
func TestOutOfTime(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fetch func(u *unit, ctx context.Context, symbols ...market.Symbol) map[market.Symbol]Result
		by    string // the provider that is counted
	}{
		"named provider": {func(u *unit, ctx context.Context, symbols ...market.Symbol) map[market.Symbol]Result {
			return u.fetch(ctx, "p", symbols...)
		}, "p"},
		"auto": {(*unit).auto, jobs.Auto},
	} {
		t.Run(name+" at once", func(t *testing.T) {
			t.Parallel()
			u := newUnit()
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			for symbol, r := range c.fetch(u, ctx, polltest.Symbols(Slots)...) { // though there are slots for all
				require.Equal(t, Result{Result: jobs.Result{Symbol: symbol, Outcome: jobs.OutOfTime}}, r)
			}
			require.Equal(t, map[string]int{c.by + " out_of_time": Slots}, u.counted)
			require.Empty(t, u.ingest.Calls)
			require.Empty(t, u.log.String(), "it is not a failure of the symbol")
		})
		t.Run(name+" while waiting for a slot", func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				u := newUnit()
				u.ingest.Answer = func(ctx context.Context, _ string, _ market.Symbol) error {
					<-ctx.Done()
					return nil // it ended well all the same
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				results := c.fetch(u, ctx, polltest.Symbols(3*Slots)...)
				require.Equal(t, map[jobs.Outcome]int{jobs.OK: Slots, jobs.OutOfTime: 2 * Slots}, count(results))
			})
		})
	}
	t.Run("while waiting for the budget", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			u := newUnit()
			u.ingest.Room = func(string) error { return polltest.Limited(time.Hour) }
			ctx, stop := context.WithCancel(t.Context()) // the function is told to stop
			time.AfterFunc(time.Second, stop)
			r := u.fetch(ctx, "p", "AAPL")["AAPL"]
			require.Equal(t, Result{Result: jobs.Result{Symbol: "AAPL", Outcome: jobs.OutOfTime}}, r)
		})
	})
}
