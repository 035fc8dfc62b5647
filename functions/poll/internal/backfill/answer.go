package backfill

import (
	"slices"
	"time"

	"github.com/shopspring/decimal"

	"marketdata/shared/fault"
	"marketdata/shared/market"
)

// Marks change if a split is announced, changed or taken back anywhere in the range of a series.
type Marks struct {
	Splits []market.Split `json:"splits"`
	First  *Close         `json:"first"` // the first daily close; nil: none yet
}

func marksOf(h market.History) *Marks {
	m := &Marks{Splits: h.Splits}
	for _, b := range h.Bars {
		if b.Final {
			m.First = &Close{b.Start, b.Close}
			break
		}
	}
	return m
}

// differ reports that a split changed. First closes of different days, of which one was lost and came late, say nothing.
func (m *Marks) differ(n *Marks) bool {
	if !slices.EqualFunc(m.Splits, n.Splits, func(a, b market.Split) bool {
		return a.At.Equal(b.At) && a.Numerator == b.Numerator && a.Denominator == b.Denominator
	}) {
		return true
	}
	return m.First != nil && n.First != nil && m.First.Start.Equal(n.First.Start) && m.First.Close.Cmp(n.First.Close) != 0
}

// Read returns the series after an answer to the step, and the bars to send: those that are new, and those whose close changed. split
// means that the answer is in other shares than the ones before: the series must be restarted, and nothing of the answer counts. An
// answer that does not come further is provider_malformed.
func (s Series) Read(step Step, h market.History, now time.Time) (next Series, send []market.Bar, split bool, err error) {
	if step.Check {
		next, split = s.readCheck(h, now)
		return next, nil, split, nil
	}
	if s.Adjusts && s.moved(h.Bars) {
		return s, nil, true, nil
	}
	if !h.Next.IsZero() && !h.Next.After(s.NextFrom) {
		return s, nil, false, fault.New(fault.Unavailable, fault.CodeProviderMalformed, "the provider's answer ends before it begins")
	}
	next = s
	next.Failures, next.LastCode = 0, ""
	send, whole := next.add(h.Bars)
	if !h.Next.IsZero() {
		next.NextFrom = h.Next
		if s.Marks == nil && s.Adjusts {
			next.Marks = marksOf(h)
		}
		next.forget()
		next.NotBefore = now
		return next, send, false, nil
	}
	if !next.Last.IsZero() {
		next.NextFrom = latest(next.NextFrom, next.Last.Add(s.Interval.Duration()))
	}
	next.forget()
	switch {
	case next.Complete, !s.Adjusts:
		next.Complete = true
	case s.Marks == nil: // one answer has everything
		next.Marks, next.CheckAt, next.Complete = marksOf(h), now.Add(checkEvery), true
	default:
		next.CheckAt, next.NotBefore = now, now
		return next, send, false, nil
	}
	next.wait(now, next.Last.After(s.Last), whole)
	return next, send, false, nil
}

// readCheck compares marks.
func (s Series) readCheck(h market.History, now time.Time) (next Series, split bool) {
	marks := marksOf(h)
	if s.Marks != nil && s.Marks.differ(marks) {
		return s, true
	}
	next = s
	next.Failures, next.LastCode, next.Marks = 0, "", marks
	if s.CheckAt.IsZero() { // before the first answer
		return next, false
	}
	next.CheckAt = now.Add(checkEvery)
	if !s.Complete {
		next.Complete = true
		next.wait(now, true, true)
	}
	return next, false
}

// most is how far a correction moves a close. Splits move them further: the smallest in use are 1.05:1.
var most = decimal.New(1, -2)

// moved reports that the closes in the overlap changed as a split changes them: more than one, or one of them far. Without a list of
// splits this is all that shows one; it also shows a split that was announced between two answers.
func (s Series) moved(bars []market.Bar) bool {
	changed := 0
	for _, b := range bars {
		if known := s.recent(b.Start); known != nil && b.Final && known.Cmp(b.Close) != 0 {
			changed++
			if b.Close.Decimal().Sub(known.Decimal()).Abs().GreaterThan(known.Decimal().Mul(most)) {
				return true
			}
		}
	}
	return changed > 1
}

// recent returns the close that was sent for a bar in the overlap; nil: none.
func (s Series) recent(start time.Time) *market.Price {
	for i := range s.Recent {
		if s.Recent[i].Start.Equal(start) {
			return &s.Recent[i].Close
		}
	}
	return nil
}

// add counts the final bars of an answer, and returns those to send. whole means that the answer has no unfinished bar.
func (s *Series) add(bars []market.Bar) (send []market.Bar, whole bool) {
	whole = true
	recent := slices.Clone(s.Recent)
	for _, b := range bars {
		if !b.Final {
			whole = false
			continue
		}
		known := s.recent(b.Start)
		if known != nil && known.Cmp(b.Close) == 0 {
			continue
		}
		send = append(send, b)
		recent = slices.DeleteFunc(recent, func(c Close) bool { return c.Start.Equal(b.Start) })
		recent = append(recent, Close{b.Start, b.Close})
		switch {
		case known != nil: // its close changed
		case s.Last.IsZero():
			s.First, s.Last, s.Bars = b.Start, b.Start, 1
		case b.Start.After(s.Last):
			s.Missing += gap(s.Last, b.Start, s.Interval)
			s.Last = b.Start
			s.Bars++
		default: // it came late
			s.Missing = max(s.Missing-1, 0)
			s.First = earlier(s.First, b.Start)
			s.Bars++
		}
	}
	slices.SortFunc(recent, func(a, b Close) int { return a.Start.Compare(b.Start) })
	s.Recent = recent
	return send, whole
}

// forget drops the closes before the next overlap.
func (s *Series) forget() {
	from := s.NextFrom.Add(-Overlap * s.Interval.Duration())
	s.Recent = slices.DeleteFunc(s.Recent, func(c Close) bool { return c.Start.Before(from) })
}

// gap returns how many bars are missing between two: intervals of the same day (UTC), or weekdays. Nights and weekends may have no
// trades, and holidays are not known to us, so they count.
func gap(after, before time.Time, interval market.Interval) (n int64) {
	if interval != market.Day {
		if after.Truncate(24*time.Hour) != before.Truncate(24*time.Hour) {
			return 0
		}
		return int64(before.Sub(after)/interval.Duration()) - 1
	}
	for day := after.AddDate(0, 0, 1); day.Before(before); day = day.AddDate(0, 0, 1) {
		if wd := day.Weekday(); wd != time.Saturday && wd != time.Sunday {
			n++
		}
	}
	return n
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
