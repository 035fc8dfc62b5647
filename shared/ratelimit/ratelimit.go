// Package ratelimit limits clients exactly: no window [t, t+Window) admits more than N requests, over all replicas of all
// functions, and no request is refused while the window that ends now holds fewer than N admissions.
//
// It keeps a log of the last admissions of each client. The rule is a pure function ([admit]). [Redis] keeps the logs for all
// replicas, [Memory] for one process. [Limiter] uses the first and falls back on the second; [Limiter.Middleware] puts it before a
// route. Package budget limits our own calls to providers by the same rule. README.md describes all of it.
package ratelimit

import (
	"context"
	"fmt"
	"math"
	"sort"
	"strconv"
	"strings"
	"time"
)

// Limit admits at most N requests in any Window. It decodes from text such as "5/1m" or "25/1d". The zero Limit means no limit;
// invalid text decodes to it, and [Config.Validate] rejects it.
type Limit struct {
	N      int
	Window time.Duration // whole milliseconds, up to a year
}

const (
	day       = 24 * time.Hour
	maxWindow = 366 * day
	maxN      = 1 << 30
)

// ParseLimit reads N/duration, with the duration in Go's notation or in whole days ("1d").
func ParseLimit(text string) (Limit, error) {
	bad := fmt.Errorf("%q is not of the form 5/1m", text)
	n, window, _ := strings.Cut(strings.TrimSpace(text), "/")
	count, err := strconv.Atoi(n)
	if err != nil || count < 1 || count > maxN {
		return Limit{}, bad
	}
	d, err := parseWindow(window)
	if err != nil || d < time.Millisecond || d > maxWindow || d%time.Millisecond != 0 {
		return Limit{}, bad
	}
	return Limit{count, d}, nil
}

func parseWindow(text string) (time.Duration, error) {
	if days, found := strings.CutSuffix(text, "d"); found {
		n, err := strconv.ParseUint(days, 10, 9) // 9 bits: no overflow below
		return time.Duration(n) * day, err
	}
	return time.ParseDuration(text)
}

// UnmarshalText never fails, because the decoder of the environment would stop at the first error. Invalid text becomes the zero
// Limit, for which [Limit.Check] returns an error.
func (l *Limit) UnmarshalText(text []byte) error {
	*l, _ = ParseLimit(string(text))
	return nil
}

// Check returns an error that names the variable if l is not a valid limit.
func (l Limit) Check(variable string) error {
	if l == (Limit{}) {
		return fmt.Errorf("%s is not of the form 5/1m", variable)
	}
	return nil
}

// String returns the form that [ParseLimit] reads.
func (l Limit) String() string { return strconv.Itoa(l.N) + "/" + l.WindowText() }

// WindowText returns the window alone: 1s, 5m, 1d.
func (l Limit) WindowText() string {
	for _, unit := range []struct {
		d    time.Duration
		name string
	}{{day, "d"}, {time.Hour, "h"}, {time.Minute, "m"}} {
		if l.Window%unit.d == 0 {
			return strconv.FormatInt(int64(l.Window/unit.d), 10) + unit.name
		}
	}
	return l.Window.String()
}

// maxLog is the most admissions that a log holds.
const maxLog = 100_000

// kept returns the limit as it is enforced. One above [maxLog] is split into equal parts of its window, because a log of millions
// takes hundreds of megabytes: 10000000/1m becomes 100000/600ms. The parts of a window together never admit more than N, and
// slightly less if the division leaves a remainder: N is rounded down, the window up to a microsecond. A burst has to fit into a
// part.
func (l Limit) kept() Limit {
	if l.N <= maxLog {
		return l
	}
	parts := (l.N + maxLog - 1) / maxLog
	window := (l.Window + time.Duration(parts) - 1) / time.Duration(parts)
	return Limit{l.N / parts, (window + time.Microsecond - 1).Truncate(time.Microsecond)}
}

// Decision is the outcome of one request.
type Decision struct {
	Allowed bool
	Left    []int // admissions left at this instant under each limit, in the order of the limits
	// Reset is the time until the next slot is freed: for a refused request, until a request can pass; for an admitted one, until
	// the oldest slot of the first limit is freed.
	Reset    time.Duration
	Degraded bool // decided by this process alone
}

// Seconds returns Reset in whole seconds, rounded up.
func (d Decision) Seconds() int { return int(math.Ceil(d.Reset.Seconds())) }

// Store decides a request and, if all limits admit it, records the admission, in one atomic step. A refusal changes nothing. Safe
// for concurrent use.
type Store interface {
	Take(ctx context.Context, key string, limits ...Limit) (Decision, error)
}

// admit decides a request at clock from the log of admissions, oldest first, and returns the new log. takeScript does the same in
// Redis.
//
// Admissions at a and at a+Window or later share no window. Time never runs backwards: while the clock is behind the newest
// admission, the time is that of the admission. If the clock is behind by more than the longest window, it was wrong before;
// admissions in its future then count as admitted now, so that no client waits longer than two windows.
func admit(log []time.Time, clock time.Time, limits []Limit) ([]time.Time, Decision) {
	var longest time.Duration
	for _, l := range limits {
		longest = max(longest, l.kept().Window)
	}
	now := clock
	if n := len(log); n > 0 && log[n-1].After(clock) {
		if log[n-1].Sub(clock) > longest {
			pullBack(log, clock)
		}
		now = log[n-1]
	}
	// older counts the admissions that are a window or more ago.
	older := func(window time.Duration) int {
		return sort.Search(len(log), func(i int) bool { return now.Sub(log[i]) < window })
	}
	log = log[older(longest):]
	d := Decision{Allowed: true, Left: make([]int, len(limits))}
	var first time.Duration // until the first limit frees a slot
	for i, l := range limits {
		l = l.kept()
		used := len(log) - older(l.Window)
		d.Left[i] = max(l.N-used, 0)
		if used >= l.N { // used > N: the limit was lowered
			d.Allowed = false
			d.Reset = max(d.Reset, log[len(log)-l.N].Add(l.Window).Sub(clock))
		} else if i == 0 {
			oldest := now
			if used > 0 {
				oldest = log[len(log)-used]
			}
			first = oldest.Add(l.Window).Sub(clock)
		}
	}
	if d.Allowed {
		log = append(log, now)
		for i := range d.Left {
			d.Left[i]--
		}
		d.Reset = first
	}
	return log, d
}

func pullBack(log []time.Time, clock time.Time) {
	for i := len(log) - 1; i >= 0 && log[i].After(clock); i-- {
		log[i] = clock
	}
}
