// Package schedule runs polling jobs when they are due. Any number of ticks, in any number of replicas, share the work through the
// leases of the [Store]: each series (provider, symbol) is fetched once a period, and no period of a job is recorded twice.
//
// Start at [Ticker.Run] (tick.go), then pass.run (pass.go). Package fetch knows how to fetch a symbol.
package schedule

import (
	"context"
	"time"

	"github.com/google/uuid"

	"marketdata/functions/poll/internal/fetch"
	"marketdata/functions/poll/internal/jobs"
	"marketdata/shared/market"
)

// Lease is how long a claim lasts without renewal. The jobs and series of a tick that died are free again after it.
const Lease = 15 * time.Second

// Store holds jobs and series, and the leases on them. Its clock is the only one that counts. Errors are faults. Leases are held by
// the owner of a token: one pass. [store.Store] is one.
type Store interface {
	// Due returns the store's time, and the providers of jobs that are due now or will be within ahead.
	Due(ctx context.Context, ahead time.Duration) (now time.Time, all []DueProvider, err error)
	// Claim leases up to limit of the provider's jobs that were due at until and are due now. It skips jobs that others hold, and all jobs
	// while the provider is backed off, unless it is for a probe.
	Claim(ctx context.Context, provider string, token uuid.UUID, until time.Time, limit int, probe bool) ([]Claim, error)
	// Acquire leases those of the wanted series that no fetch has served yet and nobody else is fetching.
	Acquire(ctx context.Context, token uuid.UUID, provider string, wants []*Want) (Acquired, error)
	// Renew extends the leases that token still has on these jobs and series.
	Renew(ctx context.Context, token uuid.UUID, jobIDs []string, provider string, symbols []market.Symbol) error
	// Write records a batch as far as token still holds its series and jobs, and ends these leases.
	Write(ctx context.Context, token uuid.UUID, b Batch) (Written, error)
	// Backoffs returns the providers that are backed off.
	Backoffs(ctx context.Context) (map[string]jobs.Backoff, error)
	// Probe gives the caller, and nobody else, one call to a provider that is backed off, if one is due.
	Probe(ctx context.Context, provider string) (bool, error)
	// PauseWaiting pauses the jobs that have been waiting for these providers for [jobs.PauseAfter], if an attempt failed after that.
	PauseWaiting(ctx context.Context, off map[string]jobs.Backoff) ([]PausedJob, error)
	// Paused returns how many jobs are paused because all their symbols failed.
	Paused(ctx context.Context) (int, error)
	// ForgetKeys drops idempotency keys that have expired, a few at a time.
	ForgetKeys(ctx context.Context) error
	// DropRuns deletes up to limit runs older than age.
	DropRuns(ctx context.Context, age time.Duration, limit int) (dropped int64, err error)
}

// DueProvider is a provider with jobs to run.
type DueProvider struct {
	Provider string
	Now      bool // jobs are due
	Soon     bool // jobs will be due within the look-ahead
}

// Claim is a job that a pass has leased.
type Claim struct {
	JobID     string
	Scheduled time.Time // the period to record
	Next      time.Time
	Interval  time.Duration
	Resumed   time.Time // when the job was created, or resumed after it had been paused for its failures: earlier failures do not count
	Symbols   []market.Symbol

	wants []*Want // of the symbols, each once
}

// Want is a series that claimed jobs want. An earlier fetch serves all of them if it began at Since or later, if it succeeded and was
// planned after Fresh, or if the provider did not know the symbol, it began at Resumed or later, and it is too early to ask again.
type Want struct {
	fetch.Request           // planned for the earliest of the jobs' periods
	Since         time.Time // the latest of their periods
	Resumed       time.Time // the latest of the times of the jobs
	Fresh         time.Time
	Period        time.Duration // the shortest of the jobs' intervals

	// Set by [Store.Acquire] when this pass gets the series.
	Began time.Time // the time of the lease, which counts as that of the fetch; zero: this pass does not have the series
	Last  time.Time // when the fetch before began; zero: there was none

	jobs    []int32      // that want it, by their index among the claims
	skipped bool         // a probe does not ask for it
	got     fetch.Result // guarded by pass.mu
}

// Acquired sorts wanted series.
type Acquired struct {
	Owned  []*Want    // leased to the caller, who fetches them
	Busy   []*Want    // being fetched by somebody else
	Served []Finished // by an earlier fetch
}

// Finished is a series with its result.
type Finished struct {
	*Want
	Result fetch.Result
}

// Completion is a claimed job all of whose symbols have a result.
type Completion struct {
	Claim
	Results []fetch.Result // of its symbols, in their order
}

// Batch is what a pass writes at once.
type Batch struct {
	Provider string
	Fetched  []Finished // series that a provider was asked for
	Released []*Want    // series that go back without a fetch
	Jobs     []Completion
	Returned []string // jobs that go back without a run: a probe left symbols out

	// What the calls mean for the provider: one was answered, which ends a back-off; or there is an outage, which begins or extends one.
	Answered bool
	Outage   *Outage
}

func (b *Batch) isEmpty() bool {
	return len(b.Fetched)+len(b.Released)+len(b.Jobs)+len(b.Returned) == 0 && !b.Answered && b.Outage == nil
}

// Written is what a batch has changed.
type Written struct {
	Recorded  int           // runs
	Paused    []PausedJob   // every symbol of theirs has failed for too long
	Began     *jobs.Backoff // the batch began the back-off; nil: it did not
	Ended     bool          // the batch ended the back-off
	BackedOff time.Duration // how long it was
}

// PausedJob is a job that was paused because of its failures.
type PausedJob struct {
	ID   string
	Code jobs.Outcome
}

// collectWants returns the series that the claims want. A job takes a quote that was fetched for another job within its own interval,
// as long as the quote is fresh: so a series costs one fetch a period, wherever the jobs' periods begin.
func collectWants(claims []Claim, fresh time.Duration) []*Want {
	var all []*Want
	at := map[market.Symbol]*Want{}
	for i := range claims {
		c := &claims[i]
		after, since := c.Scheduled.Add(-min(c.Interval, fresh)), later(c.Scheduled, c.Resumed)
		for _, s := range c.Symbols {
			w := at[s]
			if w == nil {
				w = &Want{Request: fetch.Request{Symbol: s, Planned: c.Scheduled}, Since: since, Resumed: c.Resumed, Fresh: after, Period: c.Interval}
				at[s] = w
				all = append(all, w)
			}
			if n := len(w.jobs); n > 0 && w.jobs[n-1] == int32(i) {
				continue // the job names the symbol twice
			}
			w.jobs = append(w.jobs, int32(i))
			c.wants = append(c.wants, w)
			if c.Scheduled.Before(w.Planned) {
				w.Planned = c.Scheduled
			}
			w.Since, w.Resumed, w.Fresh = later(w.Since, since), later(w.Resumed, c.Resumed), later(w.Fresh, after)
			w.Period = min(w.Period, c.Interval)
		}
		c.Symbols = nil // the wants have them
	}
	return all
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
