package main

import (
	"crypto/sha256"
	"encoding/json"
	"time"

	"marketdata/shared/fault"
	"marketdata/shared/market"
)

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

	attempted bool // this time it was its turn: the provider was asked
}

func (r result) code() string {
	if r.Code == nil {
		return ""
	}
	return *r.Code
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
	token     [16]byte
	scheduled time.Time // the period to record
	next      time.Time
	config    jobConfig
	attempted map[market.Symbol]time.Time // when each symbol was last asked for
}
