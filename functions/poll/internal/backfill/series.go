package backfill

import (
	"time"

	"marketdata/shared/market"
)

// Overlap is how many intervals before the first unknown bar each answer covers again: to see bars that came late, closes that changed,
// and splits.
const Overlap = 10

// Series is what is known about the history of a symbol. Apart from its first fields, all of it is of the present generation: a split
// begins a new one, which fetches everything again.
type Series struct {
	Symbol   market.Symbol
	Provider string
	Interval market.Interval
	Start    time.Time
	End      time.Time // exclusive; zero: follow
	Adjusts  bool      // a split changes all closes before it, see [market.Listing]

	Generation int // greater than 0 after a split
	NextFrom   time.Time
	First      time.Time // the first bar, and the last; zero: none yet
	Last       time.Time
	Bars       int64
	Missing    int64   // intervals without a bar between others, see gap
	Recent     []Close // the bars from NextFrom - Overlap on, in order
	Marks      *Marks  // nil: not known yet
	CheckAt    time.Time
	Complete   bool // covered to the newest final bar, and all closes are in the same shares
	Done       bool // complete to its end
	NotBefore  time.Time
	Idle       int // answers in a row without a new bar
	Failures   int // in a row
	LastCode   string
}

// Close is a bar that was sent.
type Close struct {
	Start time.Time    `json:"start"`
	Close market.Price `json:"close"`
}

// Step is the next call for a series.
type Step struct {
	Check    bool // looks for splits, and stores no bars
	Interval market.Interval
	From, To time.Time
}

// Plan returns the next step.
func (s Series) Plan(now time.Time) Step {
	if s.checks(now) {
		return Step{Check: true, Interval: market.Day, From: s.Start, To: now}
	}
	from := s.NextFrom.Add(-Overlap * s.Interval.Duration())
	if from.Before(s.Start) {
		from = s.Start
	}
	to := now
	if !s.End.IsZero() && s.End.Before(now) {
		to = s.End
	}
	return Step{Interval: s.Interval, From: from, To: to}
}

// checks reports whether the next step is a check. The answers of one generation must be in the same shares. The overlap shows a split that
// comes between two answers, but not one that lies before the overlap. So the splits of the whole range, and the first close, which each
// of them changes, are compared before the first answer, after the last, and then once a day. If one answer of daily bars has
// everything, it is its own check.
func (s Series) checks(now time.Time) bool {
	if !s.Adjusts {
		return false
	}
	if s.Marks == nil && s.Interval != market.Day {
		return true
	}
	return !s.CheckAt.IsZero() && !now.Before(s.CheckAt)
}

// Restarted returns the series at the beginning of a new generation.
func (s Series) Restarted(now time.Time) Series {
	return Series{
		Symbol: s.Symbol, Provider: s.Provider, Interval: s.Interval, Start: s.Start, End: s.End, Adjusts: s.Adjusts,
		Generation: s.Generation + 1, NextFrom: s.Start, NotBefore: now,
	}
}
