// Package jobs holds polling jobs: what a client asks for, when a job is due, and what is known about it. It does no I/O.
package jobs

import (
	"crypto/sha256"
	"encoding/json"
	"time"

	"marketdata/shared/fault"
	"marketdata/shared/market"
)

// Auto is the provider of a job that takes each symbol from the first provider of PROVIDER_CHAIN that answers.
const Auto = "auto"

// Config is what a client asks for, normalised.
type Config struct {
	Symbols  []market.Symbol `json:"symbols"`
	Interval int             `json:"interval"` // seconds
	Provider string          `json:"provider"`
}

// Parse returns the config of a request, with its symbols as of [ParseSymbols]. Errors are Invalid.
func Parse(symbols []string, interval int, provider string) (Config, error) {
	all, err := ParseSymbols(symbols)
	return Config{Symbols: all, Interval: interval, Provider: provider}, err
}

// ParseSymbols converts symbols to upper case and drops repeated ones; the order stays. Errors are Invalid.
func ParseSymbols(texts []string) (all []market.Symbol, err error) {
	seen := map[market.Symbol]bool{}
	for _, text := range texts {
		s, err := market.ParseSymbol(text)
		if err != nil {
			return nil, err
		}
		if !seen[s] {
			seen[s] = true
			all = append(all, s)
		}
	}
	if len(all) == 0 {
		return nil, fault.New(fault.Invalid, fault.CodeInvalidParameter, "symbols must name at least one symbol")
	}
	return all, nil
}

// Fingerprint returns a hash that is the same for requests that ask for the same.
func (c Config) Fingerprint() ([]byte, error) {
	text, err := json.Marshal(c)
	sum := sha256.Sum256(text)
	return sum[:], err
}

// Period returns the scheduled time of the newest period that is due at now, and that of the next one. Periods begin at
// created + k × interval. If several were missed, only the newest of them runs.
func Period(created, now time.Time, interval time.Duration) (due, next time.Time) {
	k := max(now.Sub(created), 0) / interval
	due = created.Add(k * interval)
	return due, due.Add(interval)
}

// Status says whether a job runs.
type Status string

// Statuses of a job.
const (
	Active Status = "active"
	Paused Status = "paused"
)

// Job is a stored polling job.
type Job struct {
	ID         string
	Config     Config
	Status     Status
	PausedCode Outcome // the problem that paused the job; empty: it is active, or its user paused it
	CreatedAt  time.Time
	NextRunAt  time.Time
	LastRunAt  *time.Time // nil before the first run
	Runs       int64
	Failures   int64
}

// Run is a recorded run of a job.
type Run struct {
	ScheduledAt time.Time
	FinishedAt  time.Time
	Failed      int // symbols
}
