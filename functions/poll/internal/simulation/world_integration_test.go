//go:build integration

package simulation_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/stretchr/testify/require"

	"marketdata/functions/poll/internal/backfill"
	"marketdata/functions/poll/internal/jobs"
	"marketdata/local/exchange"
	"marketdata/shared/ingest"
	"marketdata/shared/kafkaclient"
	"marketdata/shared/market"
	"marketdata/shared/testenv/pipes"
)

// world is one simulation: the exchange, what happens to it, and the replicas of poll. All of it has the clock of a bubble of synctest,
// which jumps to the next moment at which something happens.
type world struct {
	t     *testing.T
	seed  uint64
	stage *stage
	log   *slog.Logger
	plan  // what happens when
	// races decides what depends on the order of concurrent calls; rng everything else, so that a seed always has the same plan.
	rng, races *rand.Rand

	exchange *exchange.Exchange
	listener pipes.Listener
	redis    *miniredis.Miniredis
	followed []series
	jobs     []string // their ids
	watcher  *replica // looks at the tables, and never dies
	replicas []*replica
	ticks    int
	upAt     time.Time // no ticks before
	splits   bool      // a stock is about to be split, see splitNow
	stopping sync.Mutex

	mu         sync.Mutex
	journal    []string
	outages    map[string]string // kind of fault by provider
	brokerDown bool
	forgot     bool                   // Redis has lost its memory at least once
	calls      map[string][]time.Time // by provider
	topic      []kafkaclient.Record
	delivered  int // records of the topic
}

// simulate plays a seed and returns the first difference between what is stored and what should be; empty if there is none.
func simulate(t *testing.T, s *stage, seed uint64) (difference string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{
			t: t, seed: seed, stage: s, rng: rand.New(rand.NewPCG(seed, 1)), races: rand.New(rand.NewPCG(seed, 2)),
			listener: pipes.New(), redis: miniredis.NewMiniRedis(), outages: map[string]string{}, calls: map[string][]time.Time{},
		}
		w.log = slog.New(slog.NewTextHandler(w, nil))
		w.plan = newPlan(w.rng)
		time.Sleep(time.Until(w.begin))
		// If everything waits for ever, the clock goes on, because the pools have tickers.
		defer time.AfterFunc(time.Until(w.end)+30*day, func() { panic(fmt.Sprintf("seed %d: everything waits", seed)) }).Stop()
		w.redis.ClockTTL(true)
		w.exchange = exchange.New(seed, time.Now)
		server := &http.Server{Handler: w}
		go server.Serve(w.listener) //nolint:errcheck // it ends with the listener
		w.watcher = w.newReplica()
		w.replicas = []*replica{w.newReplica(), w.newReplica()}
		difference = w.play()
		for _, r := range append(w.replicas, w.watcher) {
			r.end()
		}
		time.Sleep(time.Minute) // idle connections close
		close(w.listener)
		_ = server.Close()
		w.redis.Close()
	})
	return difference
}

// Write adds a line to the journal.
func (w *world) Write(line []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.journal = append(w.journal, strings.TrimSpace(string(line)))
	return len(line), nil
}

func (w *world) note(format string, args ...any) {
	_, _ = fmt.Fprintf(w, time.Now().UTC().Format(time.DateTime)+" "+format, args...)
}

// ServeHTTP is the exchange with a network in front of it.
func (w *world) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	provider, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	w.mu.Lock()
	w.calls[provider] = append(w.calls[provider], time.Now())
	delay := time.Duration(w.races.IntN(300)) * time.Millisecond
	switch n := w.races.IntN(1000); {
	case !time.Now().Before(w.calm):
	case n < 5:
		delay = 30 * time.Second // longer than a call and its lease may take
	case n < 30:
		delay = 6 * time.Second // longer than the call
	}
	w.mu.Unlock()
	time.Sleep(delay)
	w.exchange.ServeHTTP(rw, r)
}

// admin calls the exchange's own routes.
func (w *world) admin(method, target, body string) string {
	rec := httptest.NewRecorder()
	w.exchange.ServeHTTP(rec, httptest.NewRequest(method, target, strings.NewReader(body)))
	require.Less(w.t, rec.Code, http.StatusMultipleChoices, "%s %s %s: %s", method, target, body, rec.Body)
	return rec.Body.String()
}

// fail sets or ends the outage of a provider.
func (w *world) fail(provider, kind string) {
	w.outages[provider] = kind
	w.admin(http.MethodDelete, "/_admin/faults", "")
	for provider, kind := range w.outages {
		if kind != "" {
			w.admin(http.MethodPut, "/_admin/faults", fmt.Sprintf(`{"provider":%q,"kind":%q}`, provider, kind))
		}
	}
}

// follow creates a backfill without an end.
func (w *world) follow(s series) {
	w.followed = append(w.followed, s)
	_, err := w.watcher.store.CreateBackfill(w.t.Context(), backfill.Config{
		Symbols: []market.Symbol{market.Symbol(s.symbol)}, Provider: s.provider, Interval: market.Interval(s.interval), Start: s.start,
	}, "", "")
	require.NoError(w.t, err)
}

// poll creates a job of quotes, which come first in the budget.
func (w *world) poll(provider string, every time.Duration, symbols ...market.Symbol) {
	id, err := w.watcher.store.Create(w.t.Context(), jobs.Config{Symbols: symbols, Provider: provider, Interval: int(every.Seconds())}, "", "")
	require.NoError(w.t, err)
	w.jobs = append(w.jobs, id)
}

func (w *world) removeJobs() {
	for _, id := range w.jobs {
		require.NoError(w.t, w.watcher.store.Remove(w.t.Context(), id))
	}
	w.jobs = nil
}

// play carries out the plan, then kills everything for two days, and compares what is stored after two ticks.
func (w *world) play() (difference string) {
	for _, d := range w.drafts {
		w.admin(http.MethodPut, "/_admin/bars", d)
	}
	for _, s := range w.series {
		w.note("follow %s-%s %s since %s", s.provider, s.interval, s.symbol, s.start.Format(time.DateTime))
		w.follow(s)
	}
	for next := w.nextTick(); next.Before(w.end); next = w.nextTick() {
		for len(w.happenings) > 0 && !w.happenings[0].at.After(next) {
			h := w.happenings[0]
			w.happenings = w.happenings[1:]
			time.Sleep(time.Until(h.at))
			w.note("%s", h.what)
			h.do(w)
		}
		if next.Before(w.upAt) { // something brought everything down
			continue
		}
		time.Sleep(time.Until(next))
		w.tick(w.rng.IntN(25) == 0)
	}
	require.Empty(w.t, w.happenings)
	w.tick(true)
	w.note("everything is down for two days")
	time.Sleep(48 * time.Hour)
	if difference = w.settle(); difference == "" {
		w.splitNow()
		difference = w.settle()
	}
	if difference == "" {
		difference = w.overspent()
	}
	if difference == "" {
		return ""
	}
	return fmt.Sprintf("seed %d: %s\nafter %d ticks; the last events were\n%s", w.seed, difference, w.ticks,
		strings.Join(w.journal[max(0, len(w.journal)-40):], "\n"))
}

// settle compares what is stored after two ticks.
func (w *world) settle() (difference string) {
	first := time.Now()
	w.tick(false)
	time.Sleep(5 * time.Second)
	last := time.Now()
	w.tick(false)
	time.Sleep(time.Second) // what was published leaves the outbox
	w.deliver()
	return w.compare(first, last)
}

// splitNow splits a stock while a replica is stopped with a new bar of it, mostly after the daily checks: so it is the next answer, to
// another replica, which must show the split, and that of the first one must not count.
func (w *world) splitNow() {
	for w.splits = true; w.splits; w.tick(false) {
		var due time.Time
		const q = "select max(not_before) from backfill_series where symbol = $1"
		require.NoError(w.t, w.watcher.pool.QueryRow(w.t.Context(), q, w.series[1].symbol).Scan(&due))
		time.Sleep(time.Until(due) + time.Second)
	}
}

// stops reports whether a replica is stopped with these bars.
func (w *world) stops(b ingest.Bars) bool {
	if w.splits {
		s := w.series[1]
		return string(b.Symbol) == s.symbol && b.Series == s.provider+"-"+s.interval
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Now().Before(w.calm) && w.races.IntN(100) == 0
}

// split splits the stock of splitNow, if it is time.
func (w *world) split() {
	if !w.splits {
		return
	}
	w.splits = false
	now := time.Now()
	body := splitOf(w.series[1].symbol, now, now, [2]int{3, 2})
	w.note("split %s", body)
	w.admin(http.MethodPut, "/_admin/splits", body)
}

// nextTick returns when the timer calls next: when something is due, or at a random time; seldom in quick succession, because there are
// far more moments at which something is due than a simulation has time for.
func (w *world) nextTick() time.Time {
	now := time.Now()
	pause := time.Duration(w.rng.Int64N(int64(30 * time.Hour)))
	if slices.ContainsFunc(w.busy, func(b span) bool { return !now.Before(b.from) && now.Before(b.to) }) {
		pause = 5 * time.Second
	}
	next := now.Add(pause)
	if w.rng.IntN(4) > 0 {
		const q = `
			select least(
				(select min(not_before) from backfill_series where not done), (select min(next_run_at) from polling_jobs),
				(select min(next_attempt_at) from outbox), $1)`
		var due time.Time
		require.NoError(w.t, w.watcher.pool.QueryRow(w.t.Context(), q, now.Add(12*time.Hour)).Scan(&due))
		if due.After(next) {
			next = due
		}
	}
	for _, b := range w.busy {
		if now.Before(b.from) && next.After(b.from) {
			next = b.from
		}
	}
	next = next.Add(time.Duration(w.rng.Int64N(int64(5 * time.Second))))
	if next.Before(w.upAt) {
		return w.upAt
	}
	return next
}

// tick sends a tick, sometimes to two replicas at once. If kill is set, the first one dies in the middle of it, or soon after.
func (w *world) tick(kill bool) {
	w.ticks++
	some := w.replicas
	if w.rng.IntN(4) > 0 {
		some = some[:1]
	}
	if kill {
		n := 1 + w.rng.Int64N(200)
		w.note("a replica will die after %d reads and writes", n)
		w.replicas[0].life.left.Store(n)
	}
	w.note("tick %d of %d replicas", w.ticks, len(some))
	var wg sync.WaitGroup
	for _, r := range some {
		wg.Go(func() {
			if err := r.Run(context.WithoutCancel(w.t.Context())); err != nil && !r.life.isDead() {
				w.note("tick %d fails: %v", w.ticks, err)
			}
		})
	}
	wg.Wait()
	synctest.Wait()
	if kill || w.rng.IntN(40) == 0 {
		r := w.replicas[0]
		if kill {
			r.life.left.Store(0)
		}
		r.end()
		w.replicas[0] = w.replicas[1]
		w.replicas[1] = w.newReplica()
	}
	if w.ticks%50 == 0 {
		w.deliver()
	}
}

// deliver lets compute-ma have what is new on the topic, and some of the old.
func (w *world) deliver() {
	records := slices.Clone(w.topic[w.delivered:])
	for range min(w.delivered, len(records)/20) {
		records = append(records, w.topic[w.races.IntN(w.delivered)])
	}
	w.delivered = len(w.topic)
	w.stage.deliver <- records
	require.NoError(w.t, <-w.stage.delivered)
}
