package schedule

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"marketdata/functions/poll/internal/fetch"
	"marketdata/functions/poll/internal/jobs"
	"marketdata/shared/fault"
	"marketdata/shared/market"
)

const (
	claimBatch  = 2500   // jobs claimed by one statement
	passWants   = 50_000 // a pass stops claiming once its jobs want so many symbols, which bounds its memory
	writeJobs   = 1000   // jobs recorded by one statement
	writeRows   = 5000   // results written by one statement, unless one job has more
	busyWait    = 100 * time.Millisecond
	renewalStep = Lease / 3
)

// pass runs a set of jobs of one provider: it claims them, fetches what they want, and records each job once all of its symbols
// have a result.
type pass struct {
	*Ticker
	provider string
	probe    bool      // one call finds out whether the provider is back
	token    uuid.UUID // of its leases
	claims   []Claim
	wants    []*Want
	results  chan Finished // on their way to the store

	mu     sync.Mutex         // held while leases are written, so that renewals and results do not deadlock
	left   []int              // symbols of each claim that have no result yet
	open   map[*Want]bool     // series of the pass's provider that it holds
	lent   map[*Want]string   // series of other providers that it holds for jobs of auto, with their provider
	access map[string]*access // to providers that are backed off
	health map[string]*health // of the providers that were called
}

// begin claims jobs for a pass; nil: there are none. Each pass has its own token, so that a slow one cannot write what another has taken
// over.
func (t *Ticker) begin(ctx context.Context, provider string, until time.Time, probe bool, seen map[string]*health) (*pass, error) {
	p := &pass{
		Ticker: t, provider: provider, probe: probe, token: uuid.New(), results: make(chan Finished, 64),
		open: map[*Want]bool{}, lent: map[*Want]string{}, health: seen,
	}
	limit := claimBatch
	if probe {
		limit = 1
	}
	for wanted := 0; wanted < passWants; {
		batch, err := t.Store.Claim(ctx, provider, p.token, until, limit, probe)
		if err != nil {
			return nil, err
		}
		for _, c := range batch {
			wanted += len(c.Symbols)
		}
		p.claims = append(p.claims, batch...)
		if probe || len(batch) < limit {
			break
		}
	}
	if len(p.claims) == 0 {
		return nil, nil //nolint:nilnil // documented
	}
	p.wants = collectWants(p.claims, t.Fresh)
	for _, c := range p.claims {
		p.left = append(p.left, len(c.wants))
	}
	return p, nil
}

// run fetches until calls ends, and records until ctx ends. After an error of the store it makes no more calls: their results could
// not be recorded.
func (p *pass) run(ctx, calls context.Context) error {
	calls, end := context.WithCancel(calls)
	defer end()
	stop := p.keepLeases(ctx)
	defer stop()
	failed := make(chan error, 1)
	go func() {
		defer close(p.results)
		failed <- p.fetchAll(ctx, calls)
	}()
	if err := p.record(ctx, end); err != nil {
		return err
	}
	if err := <-failed; err != nil {
		return err
	}
	return p.reportOutages(ctx)
}

// fetchAll gets a result for every want: that of a fetch of this pass, or of another that serves the same period. While another tick
// or replica fetches a series, fetchAll checks repeatedly until it has a result.
func (p *pass) fetchAll(ctx, calls context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	left := p.wants
	if p.probe { // any of the job's symbols, since the provider may fail for one of them alone
		i := rand.IntN(len(left))
		for j, w := range left {
			if w.skipped = j != i; w.skipped {
				p.results <- Finished{Want: w}
			}
		}
		left = left[i : i+1]
	}
	for len(left) > 0 && !isOver(calls) {
		got, err := p.Store.Acquire(ctx, p.token, p.provider, left)
		if err != nil {
			return err
		}
		p.hold(got.Owned)
		for _, s := range got.Served {
			p.results <- s
		}
		// The series that was asked longest ago goes first, so that a budget too small for all serves all in turn.
		slices.SortStableFunc(got.Owned, func(a, b *Want) int { return a.Last.Compare(b.Last) })
		for _, w := range got.Owned {
			p.start(ctx, calls, &wg, w)
		}
		if left = got.Busy; len(left) > 0 {
			fetch.Pause(calls, busyWait)
		}
	}
	for _, w := range left {
		p.results <- Finished{w, p.Fetcher.Fail(ctx, p.provider, w.Symbol, jobs.OutOfTime, nil)}
	}
	return nil
}

// start starts a fetch of a series that this pass holds. It returns once the fetch has begun.
func (p *pass) start(ctx, calls context.Context, wg *sync.WaitGroup, w *Want) {
	done := func(r fetch.Result) { p.results <- Finished{w, r} }
	if p.provider != jobs.Auto {
		p.Fetcher.Start(calls, wg, p.provider, w.Request, done)
		return
	}
	share := func(provider string, call func() fetch.Result) fetch.Result {
		if code, off := p.refused(provider, false); off {
			return p.Fetcher.Fail(ctx, provider, w.Symbol, code, nil)
		}
		return p.share(ctx, calls, provider, *w, call)
	}
	p.Fetcher.StartAuto(calls, wg, w.Request, share, done)
}

// share is the [fetch.Share] of a series that a job of auto wants, for one provider of the chain. w is its own: it is leased for that
// provider.
func (p *pass) share(ctx, calls context.Context, provider string, w Want, call func() fetch.Result) fetch.Result {
	for {
		got, err := p.Store.Acquire(ctx, p.token, provider, []*Want{&w})
		switch {
		case err != nil:
			return p.Fetcher.Fail(ctx, provider, w.Symbol, jobs.Outcome(fault.CodeOf(err)), err)
		case len(got.Served) == 1:
			return got.Served[0].Result
		case len(got.Owned) == 1:
			p.lend(&w, provider)
			defer p.lend(&w, "")
			var r fetch.Result
			if code, off := p.refused(provider, true); off {
				r = p.Fetcher.Fail(ctx, provider, w.Symbol, code, nil)
			} else {
				r = call()
			}
			b := settle(provider, Finished{&w, r})
			p.mu.Lock()
			p.note(&b, provider, r)
			p.mu.Unlock()
			if err := p.keep(ctx, b); err != nil { // others fetch it, too, once the lease is over
				p.Log.WarnContext(ctx, "result of a series not written", "provider", provider, "symbol", w.Symbol, "err", err)
			}
			return r
		}
		if !fetch.Pause(calls, busyWait) {
			return p.Fetcher.Fail(ctx, provider, w.Symbol, jobs.OutOfTime, nil)
		}
	}
}

// settle returns the batch that writes the results of series of a provider.
func settle(provider string, held ...Finished) Batch {
	b := Batch{Provider: provider}
	for _, f := range held {
		if f.Result.Asked {
			b.Fetched = append(b.Fetched, f)
		} else {
			b.Released = append(b.Released, f.Want)
		}
	}
	return b
}

func (p *pass) hold(wants []*Want) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, w := range wants {
		p.open[w] = true
	}
}

// lend notes that the pass holds a series of a provider of the chain; an empty provider means that it no longer does.
func (p *pass) lend(w *Want, provider string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if provider == "" {
		delete(p.lent, w)
		return
	}
	p.lent[w] = provider
}

// record writes results as they come, as many at once as came while the last ones were being written. After an error it goes on
// reading, so that fetches end, but writes nothing more: the leases expire, and the jobs run again. It calls end at the error.
func (p *pass) record(ctx context.Context, end func()) (failed error) {
	for first := range p.results {
		all := []Finished{first}
	more:
		for len(all) < cap(p.results) {
			select {
			case f, ok := <-p.results:
				if !ok {
					break more
				}
				all = append(all, f)
			default:
				break more
			}
		}
		if failed != nil {
			continue
		}
		if failed = p.write(ctx, all); failed != nil {
			end()
		}
	}
	return failed
}

// write stores results, and the jobs that are complete with them, in statements of bounded size.
func (p *pass) write(ctx context.Context, all []Finished) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var held []Finished
	for _, f := range all {
		if f.got = f.Result; p.open[f.Want] {
			held = append(held, f)
		}
	}
	b := settle(p.provider, held...)
	if p.provider != jobs.Auto {
		for _, f := range held {
			p.note(&b, p.provider, f.Result)
		}
	}
	rows := 0
	for _, f := range all {
		for _, i := range f.jobs {
			if p.left[i]--; p.left[i] > 0 {
				continue
			}
			if slices.ContainsFunc(p.claims[i].wants, func(w *Want) bool { return w.skipped }) {
				b.Returned = append(b.Returned, p.claims[i].JobID)
				continue
			}
			b.Jobs = append(b.Jobs, p.completion(i))
			if rows += len(p.claims[i].wants); len(b.Jobs) >= writeJobs || rows >= writeRows {
				if err := p.keep(ctx, b); err != nil {
					return err
				}
				b, rows = Batch{Provider: p.provider}, 0
			}
		}
	}
	for _, f := range held {
		delete(p.open, f.Want)
	}
	return p.keep(ctx, b)
}

func (p *pass) keep(ctx context.Context, b Batch) error {
	if b.isEmpty() {
		return nil
	}
	written, err := p.Store.Write(ctx, p.token, b)
	if err != nil {
		return err
	}
	p.log(ctx, b.Provider, written)
	p.Recorded(written.Recorded)
	if lost := len(b.Jobs) - written.Recorded; lost > 0 { // deleted meanwhile, or slower than the lease
		p.Log.InfoContext(ctx, "runs not recorded: the jobs were deleted or taken over", "provider", p.provider, "jobs", lost)
	}
	return nil
}

func (p *pass) completion(i int32) Completion {
	c := Completion{Claim: p.claims[i]}
	for _, w := range c.wants {
		c.Results = append(c.Results, w.got)
	}
	return c
}

// keepLeases renews the leases of what is not written yet, until it is stopped.
func (p *pass) keepLeases(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		for fetch.Pause(ctx, renewalStep) {
			if err := p.renew(ctx); err != nil && !isOver(ctx) {
				p.Log.WarnContext(ctx, "leases not renewed", "provider", p.provider, "err", err)
			}
		}
	})
	return func() { cancel(); wg.Wait() }
}

func (p *pass) renew(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var ids []string
	for i, n := range p.left {
		if n > 0 {
			ids = append(ids, p.claims[i].JobID)
		}
	}
	symbols := map[string][]market.Symbol{p.provider: nil}
	for w := range p.open {
		symbols[p.provider] = append(symbols[p.provider], w.Symbol)
	}
	for w, provider := range p.lent {
		symbols[provider] = append(symbols[provider], w.Symbol)
	}
	var errs []error
	for provider, held := range symbols {
		errs = append(errs, p.Store.Renew(ctx, p.token, ids, provider, held))
		ids = nil // once is enough
	}
	return errors.Join(errs...)
}
