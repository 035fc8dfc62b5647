package main

import (
	"context"
	"slices"
	"sync"
	"time"

	"marketdata/shared/fault"
	"marketdata/shared/market"
)

const (
	fetchers = 8 // upstream calls of one provider at a time: none waits for another's budget
	// codeOutOfTime is the result of a symbol that the tick did not come to. Its turn comes first at the next.
	codeOutOfTime = "out_of_time"
	codeLimited   = "provider_rate_limited"
	shortestWait  = 10 * time.Millisecond // for a budget
)

// series is what is fetched once however many jobs want it.
type series struct {
	provider string
	symbol   market.Symbol
}

// errand is a series that is due.
type errand struct {
	series
	planned time.Time // the earliest period among the jobs that want it
	last    time.Time // when it was last asked for, for any of them; zero: never
}

// errands gives what the claims want, in turn: what was asked for longest ago comes first. So a budget that is too small for
// all serves all, one after the other, and none starves behind the first of its job.
func errands(claims []claim) []errand {
	var all []errand
	at := map[series]int{}
	for _, c := range claims {
		for _, s := range c.config.Symbols {
			k := series{c.config.Provider, s}
			i, known := at[k]
			if !known {
				i = len(all)
				at[k] = i
				all = append(all, errand{series: k, planned: c.scheduled})
			}
			e := &all[i]
			if c.scheduled.Before(e.planned) {
				e.planned = c.scheduled
			}
			if last := c.attempted[s]; last.After(e.last) {
				e.last = last
			}
		}
	}
	slices.SortStableFunc(all, func(a, b errand) int { return a.last.Compare(b.last) })
	return all
}

// round is the fetching of one batch of claims: each series once, under way until its result is there.
type round struct {
	*ticker
	results map[series]*pending // of all series; the map itself does not change
}

type pending struct {
	done chan struct{} // closed when got is there
	got  result
}

// begin starts to fetch each series that the claims want, and ends with ctx.
func (t *ticker) begin(ctx context.Context, claims []claim) *round {
	r := &round{ticker: t, results: map[series]*pending{}}
	due := map[string][]errand{}
	for _, e := range errands(claims) {
		due[e.provider] = append(due[e.provider], e)
		r.results[e.series] = &pending{done: make(chan struct{})}
	}
	for provider, own := range due {
		go r.fetchOwn(ctx, provider, own)
	}
	return r
}

// result waits until the series has one.
func (r *round) result(k series) result {
	p := r.results[k]
	<-p.done
	return p.got
}

func (r *round) note(e errand, got result) {
	p := r.results[e.series]
	p.got = got
	close(p.done)
}

// fetchOwn fetches what one provider has. Calls are reserved one after the other, in turn, and made side by side.
func (r *round) fetchOwn(ctx context.Context, provider string, due []errand) {
	g := &gate{ticker: r.ticker, provider: provider}
	places := make(chan struct{}, fetchers)
	for _, e := range due {
		places <- struct{}{}
		code, err := g.reserve(ctx)
		if code != "" {
			<-places
			r.note(e, r.failed(ctx, e, code, err))
			continue
		}
		go func() {
			defer func() { <-places }()
			r.note(e, r.fetch(ctx, e, g))
		}()
	}
}

// fetch brings one series into the pipeline.
func (r *round) fetch(ctx context.Context, e errand, g *gate) result {
	got, err := r.ingest.FetchReserved(ctx, e.planned, e.provider, e.symbol)
	if err != nil {
		f := r.failed(ctx, e, fault.CodeOf(err), err)
		if f.attempted = f.code() != codeLimited; !f.attempted {
			g.close(err) // the provider counts otherwise than we: its word goes
		}
		return f
	}
	r.metrics.fetches(e.provider, "ok").Inc()
	if _, err := r.cache.Put(ctx, got.Quote, got.RawResponseID); err != nil {
		r.log.WarnContext(ctx, "cache not written", "err", err)
	}
	return result{Symbol: e.symbol, Price: &got.Quote.Price, ObservedAt: &got.Quote.ObservedAt, attempted: true}
}

func (r *round) failed(ctx context.Context, e errand, code string, err error) result {
	r.metrics.fetches(e.provider, code).Inc()
	if err != nil {
		r.log.WarnContext(ctx, "fetch failed", "provider", e.provider, "symbol", e.symbol, "code", code, "err", err)
	}
	return result{Symbol: e.symbol, Code: &code}
}

// gate lets calls of one provider through for as long as there is room for them.
type gate struct {
	*ticker
	provider string
	mu       sync.Mutex
	closed   time.Time // until then no call is let through
	why      string    // the code of what closed it
}

// reserve waits for room in the provider's budget, if it comes before ctx ends: a plan of one call a second still serves a
// whole job. Else it gives the code of what is in the way, and its cause where that was not known before.
func (g *gate) reserve(ctx context.Context) (code string, err error) {
	for {
		if isOver(ctx) {
			return codeOutOfTime, nil
		}
		if code := g.closedBy(); code != "" {
			return code, nil
		}
		err := g.ingest.Reserve(ctx, g.provider)
		if err == nil {
			return "", nil
		}
		wait := waitOf(err)
		end, bounded := ctx.Deadline()
		if fault.CodeOf(err) != codeLimited || bounded && time.Now().Add(wait).After(end) {
			g.close(err)
			return fault.CodeOf(err), err
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
}

// close keeps the gate shut for as long as err says.
func (g *gate) close(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed, g.why = time.Now().Add(waitOf(err)), fault.CodeOf(err)
}

// closedBy gives the code of what keeps the gate shut, empty if nothing does.
func (g *gate) closedBy() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	if time.Now().Before(g.closed) {
		return g.why
	}
	return ""
}

func waitOf(err error) time.Duration {
	f, ok := fault.As(err)
	if !ok {
		return shortestWait
	}
	return max(shortestWait, f.RetryAfter)
}
