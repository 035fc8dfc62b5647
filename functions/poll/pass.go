package main

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"marketdata/shared/market"
)

const (
	claimBatch = 2500   // jobs claimed by one statement
	passWants  = 50_000 // a pass claims no more once its jobs want so many symbols: a bound for its memory
	writeJobs  = 1000   // jobs recorded by one statement
	writeRows  = 5000   // results written by one statement, unless one job has more
	busyWait   = 100 * time.Millisecond
)

// pass runs a set of jobs of one provider: it claims them, fetches what they want, and records each job once all of its symbols
// have a result.
type pass struct {
	*ticker
	provider string
	token    uuid.UUID // of its leases
	claims   []claim
	wants    []*want
	results  chan finished

	mu   sync.Mutex     // held while leases are written, so that renewals and results do not deadlock
	left []int          // symbols of each claim that have no result yet
	open map[*want]bool // series that this pass holds
}

// finished is a result on its way to the database.
type finished struct {
	*want
	got result
}

// begin claims jobs for a pass. Its token is its own, so that a slow pass cannot write what another has taken over.
func (t *ticker) begin(ctx context.Context, provider string, until time.Time) (*pass, error) {
	p := &pass{ticker: t, provider: provider, token: uuid.New(), results: make(chan finished, 64), open: map[*want]bool{}}
	for wanted := 0; wanted < passWants; {
		batch, err := t.store.claim(ctx, provider, p.token, until, claimBatch)
		if err != nil {
			return nil, err
		}
		for _, c := range batch {
			wanted += len(c.symbols)
		}
		p.claims = append(p.claims, batch...)
		if len(batch) < claimBatch {
			break
		}
	}
	p.wants = wants(p.claims, t.fresh)
	for _, c := range p.claims {
		p.left = append(p.left, len(c.wants))
	}
	return p, nil
}

// run fetches while calls lasts, and records until ctx ends.
func (p *pass) run(ctx, calls context.Context) error {
	stop := p.keepLeases(ctx)
	defer stop()
	failed := make(chan error, 1)
	go func() {
		defer close(p.results)
		failed <- p.fetchAll(ctx, calls)
	}()
	if err := p.record(ctx); err != nil {
		return err
	}
	return <-failed
}

// fetchAll gives every want a result: that of a fetch of this pass, or of another that serves the same period. A series that
// another tick or replica is fetching is looked at again until it has one.
func (p *pass) fetchAll(ctx, calls context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	left := p.wants
	for len(left) > 0 && !isOver(calls) {
		got, err := p.store.acquire(ctx, p.token, p.provider, left)
		if err != nil {
			return err
		}
		p.hold(got.owned)
		for _, s := range got.served {
			p.results <- finished(s)
		}
		// What was asked longest ago goes first, so that a budget too small for all serves all in turn.
		slices.SortStableFunc(got.owned, func(a, b *want) int { return a.last.Compare(b.last) })
		p.dispatch(ctx, calls, got.owned, &wg)
		if left = got.busy; len(left) > 0 {
			pause(calls, busyWait)
		}
	}
	for _, w := range left {
		p.results <- finished{w, p.failed(ctx, p.provider, w.symbol, codeOutOfTime, nil)}
	}
	return nil
}

func (p *pass) hold(wants []*want) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, w := range wants {
		p.open[w] = true
	}
}

// record writes results as they come, as many at a time as came while the last were being written. After an error it goes on
// reading, so that fetches end, but writes nothing: the leases end, and the jobs run again.
func (p *pass) record(ctx context.Context) (failed error) {
	for first := range p.results {
		batch := []finished{first}
	more:
		for len(batch) < cap(p.results) {
			select {
			case f, ok := <-p.results:
				if !ok {
					break more
				}
				batch = append(batch, f)
			default:
				break more
			}
		}
		if failed == nil {
			failed = p.write(ctx, batch)
		}
	}
	return failed
}

// write stores a batch of results, and the jobs that are complete with them, in statements of bounded size.
func (p *pass) write(ctx context.Context, batch []finished) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	o := outcome{provider: p.provider}
	rows := 0
	var held []*want
	for _, f := range batch {
		w := f.want
		if w.got = f.got; p.open[w] {
			held = append(held, w)
			if w.got.attempted {
				o.fetched = append(o.fetched, w)
			} else {
				o.unasked = append(o.unasked, w)
			}
		}
	}
	for _, f := range batch {
		for _, i := range f.jobs {
			if p.left[i]--; p.left[i] > 0 {
				continue
			}
			o.jobs = append(o.jobs, p.completion(i))
			if rows += len(p.claims[i].wants); len(o.jobs) >= writeJobs || rows >= writeRows {
				if err := p.keep(ctx, o); err != nil {
					return err
				}
				o, rows = outcome{provider: p.provider}, 0
			}
		}
	}
	for _, w := range held {
		delete(p.open, w)
	}
	return p.keep(ctx, o)
}

func (p *pass) keep(ctx context.Context, o outcome) error {
	if len(o.fetched)+len(o.unasked)+len(o.jobs) == 0 {
		return nil
	}
	n, err := p.store.write(ctx, p.token, o)
	if err != nil {
		return err
	}
	p.metrics.runs.Add(int(n))
	if lost := len(o.jobs) - int(n); lost > 0 { // deleted meanwhile, or slower than the lease
		p.log.InfoContext(ctx, "runs not recorded: the jobs were deleted or taken over", "provider", p.provider, "jobs", lost)
	}
	return nil
}

func (p *pass) completion(i int32) completion {
	c := completion{claim: p.claims[i]}
	for _, w := range c.wants {
		c.results = append(c.results, w.got)
	}
	return c
}

// keepLeases renews what is not written yet, until stopped.
func (p *pass) keepLeases(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		for pause(ctx, renewalStep) {
			if err := p.renew(ctx); err != nil && !isOver(ctx) {
				p.log.WarnContext(ctx, "leases not renewed", "provider", p.provider, "err", err)
			}
		}
	})
	return func() { cancel(); wg.Wait() }
}

func (p *pass) renew(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var jobs []string
	for i, n := range p.left {
		if n > 0 {
			jobs = append(jobs, p.claims[i].jobID)
		}
	}
	var symbols []market.Symbol
	for w := range p.open {
		symbols = append(symbols, w.symbol)
	}
	return p.store.renew(ctx, p.token, jobs, p.provider, symbols)
}
