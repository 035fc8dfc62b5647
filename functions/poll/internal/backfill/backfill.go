// Package backfill fetches histories: the bars of a range, then each new one when it is final, and all of them again after a split.
//
// What is asked next and what an answer means is pure: [Series.Plan], [Series.Read], and [Series.Failed] (series.go, answer.go, when.go).
// [Runner.Run] (runner.go) does the work, one answer at a time, each in one transaction. The package knows no ticks.
package backfill

import (
	"crypto/sha256"
	"encoding/json"
	"time"

	"marketdata/shared/fault"
	"marketdata/shared/market"
	"marketdata/shared/timerange"
)

// Config is what a client asks for, normalised.
type Config struct {
	Symbols  []market.Symbol `json:"symbols"`
	Provider string          `json:"provider"`
	Interval market.Interval `json:"interval"`
	Start    time.Time       `json:"start"`
	End      *time.Time      `json:"end"` // exclusive; nil: follow
}

// MaxBars is the most intervals in the range of a backfill: two years of minutes.
const MaxBars = 1_100_000

// earliest is the first time of a price event.
var earliest = time.Unix(0, 0)

// Parse returns the config of a request; now is the time on our clock. The symbols are normalised already, and the provider has the
// interval. Errors are Invalid.
func Parse(symbols []market.Symbol, provider string, interval market.Interval, start, end string, now time.Time) (Config, error) {
	if start == "" {
		return Config{}, fault.New(fault.Invalid, fault.CodeInvalidParameter, "start is missing")
	}
	r, err := timerange.Parse(start, end)
	if err != nil {
		return Config{}, err
	}
	c := Config{Symbols: symbols, Provider: provider, Interval: interval, Start: r.From}
	last := now
	if end != "" {
		c.End, last = &r.To, r.To
	}
	switch {
	case r.From.Before(earliest):
		return Config{}, fault.New(fault.Invalid, fault.CodeInvalidParameter, "start must not be before 1970")
	case !r.From.Before(now):
		return Config{}, fault.New(fault.Invalid, fault.CodeInvalidParameter, "start must be in the past")
	case last.Unix()-r.From.Unix() > MaxBars*int64(interval.Duration()/time.Second): // a Duration ends after 292 years
		return Config{}, fault.New(fault.Invalid, fault.CodeInvalidParameter, "the range has more than %d intervals of %s; choose a later start", MaxBars, interval)
	}
	return c, nil
}

// Fingerprint returns a hash that is the same for requests that ask for the same.
func (c Config) Fingerprint() ([]byte, error) {
	text, err := json.Marshal(c)
	sum := sha256.Sum256(text)
	return sum[:], err
}

// Backfill is a stored backfill.
type Backfill struct {
	ID        string
	Config    Config
	Paused    bool
	Done      bool // all of its series are
	CreatedAt time.Time
}
