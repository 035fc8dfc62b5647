package main

import (
	"crypto/sha256"
	"encoding/json"
	"strings"
	"time"

	"marketdata/shared/fault"
	"marketdata/shared/market"
)

// auto is the provider's name for "the first of PROVIDER_CHAIN that answers".
const auto = "auto"

// jobConfig is what a client asks for, normalised.
type jobConfig struct {
	Symbols  []market.Symbol `json:"symbols"`
	Interval int             `json:"interval"` // seconds
	Provider string          `json:"provider"`
}

// normalise raises and folds the symbols, keeping their order. Errors are Invalid.
func normalise(symbols []string, interval int, provider string) (jobConfig, error) {
	c := jobConfig{Interval: interval, Provider: provider}
	seen := map[market.Symbol]bool{}
	for _, text := range symbols {
		s, err := market.ParseSymbol(text)
		if err != nil {
			return jobConfig{}, err
		}
		if !seen[s] {
			seen[s] = true
			c.Symbols = append(c.Symbols, s)
		}
	}
	if len(c.Symbols) == 0 {
		return jobConfig{}, fault.New(fault.Invalid, "invalid_parameter", "symbols must name at least one symbol")
	}
	return c, nil
}

// fingerprint is the same for requests that ask for the same.
func (c jobConfig) fingerprint() ([]byte, error) {
	text, err := json.Marshal(c)
	sum := sha256.Sum256(text)
	return sum[:], err
}

// period gives the scheduled time of the newest period that is due at now, and that of the next one: created + k ×
// interval. Periods that were missed in between run once, as the newest one.
func period(created, now time.Time, interval time.Duration) (due, next time.Time) {
	k := max(now.Sub(created), 0) / interval
	due = created.Add(k * interval)
	return due, due.Add(interval)
}

const jobPrefix = "poll_"

// isJobID reports whether text has the form of a job's id. What has not is no job, and is not worth asking the database, which
// refuses some texts (NUL, for one).
func isJobID(text string) bool {
	digits, ok := strings.CutPrefix(text, jobPrefix)
	return ok && len(digits) == 32 && strings.Trim(digits, "0123456789abcdef") == ""
}

// job is a stored polling job.
type job struct {
	ID        string
	Config    jobConfig
	Status    string
	CreatedAt time.Time
	NextRunAt time.Time
	LastRunAt *time.Time
	Runs      int64
	Failures  int64
}

// result is the last result of one symbol of a job.
type result struct {
	Symbol     market.Symbol
	At         time.Time
	Price      *market.Price // nil if it failed
	ObservedAt *time.Time
	Code       *string // of the problem; nil if it succeeded
	Provider   *string // the one that answered; nil if none did

	attempted bool // a provider was asked: the fetch counts, whatever came of it
}

func (r result) code() string {
	if r.Code == nil {
		return ""
	}
	return *r.Code
}

func (r result) priceText() *string {
	if r.Price == nil {
		return nil
	}
	text := r.Price.String()
	return &text
}

// recorded is one recorded run of a job.
type recorded struct {
	ScheduledAt time.Time
	FinishedAt  time.Time
	Failed      int // symbols
}

// claim is a job that a tick has to itself until its lease ends.
type claim struct {
	jobID     string
	scheduled time.Time // the period to record
	next      time.Time
	interval  time.Duration
	symbols   []market.Symbol
	wants     []*want // of the symbols, each once
}

// want is a series that claimed jobs want.
type want struct {
	symbol market.Symbol
	jobs   []int32 // that want it, by their place among the claims

	// An earlier fetch serves all of them if it began at since or later, or if it succeeded and was planned after fresh.
	planned time.Time // the earliest of their periods
	since   time.Time // the latest of their periods
	fresh   time.Time

	began time.Time // when this pass took the series; zero: it did not
	last  time.Time // when the fetch before began; zero: there was none
	got   result
}

// wants gives the series that the claims want. A job takes a quote that was fetched for another job within its own period, as
// long as the quote is fresh: so a series costs one fetch a period, however the periods of the jobs lie.
func wants(claims []claim, fresh time.Duration) []*want {
	var all []*want
	at := map[market.Symbol]*want{}
	for i := range claims {
		c := &claims[i]
		after := c.scheduled.Add(-min(c.interval, fresh))
		for _, s := range c.symbols {
			w := at[s]
			if w == nil {
				w = &want{symbol: s, planned: c.scheduled, since: c.scheduled, fresh: after}
				at[s] = w
				all = append(all, w)
			}
			if n := len(w.jobs); n > 0 && w.jobs[n-1] == int32(i) {
				continue // twice in one job
			}
			w.jobs = append(w.jobs, int32(i))
			c.wants = append(c.wants, w)
			if c.scheduled.Before(w.planned) {
				w.planned = c.scheduled
			}
			if c.scheduled.After(w.since) {
				w.since = c.scheduled
			}
			if after.After(w.fresh) {
				w.fresh = after
			}
		}
		c.symbols = nil // the wants have them
	}
	return all
}
