// Package ratelimit limits clients exactly: no window [t, t+Window), however placed, admits more than N, over all replicas
// of all functions together, and nobody is refused while fewer than N admissions lie in the window that ends now.
//
// It keeps a log of the last admissions of each client. The rule is a pure function ([admit]); Redis keeps the logs for
// all replicas together ([Redis]), memory keeps them for one process ([Memory]). [Limiter] asks the one and falls back on
// the other; [Limiter.Middleware] puts it before a route. Package budget limits our own calls of providers by the same
// rule. README.md tells the whole story.
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

// Limit admits at most N requests in any Window. It decodes from text such as "5/1m" or "25/1d". The zero Limit is none:
// it is what a text that cannot be read decodes to, and a config refuses it.
type Limit struct {
	N      int
	Window time.Duration // whole milliseconds, up to a year
}

const (
	day       = 24 * time.Hour
	maxWindow = 366 * day
	maxN      = 1 << 30
)

// ParseLimit reads N/duration, the duration as Go writes it or in whole days ("1d").
func ParseLimit(text string) (Limit, error) {
	bad := fmt.Errorf("%q is not of the form 5/1m", text)
	n, window, found := strings.Cut(strings.TrimSpace(text), "/")
	count, err := strconv.Atoi(n)
	if !found || err != nil || count < 1 || count > maxN {
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

// UnmarshalText never fails, because the environment's decoder would end at the first fault: what cannot be read becomes
// the zero Limit, which [Limit.Check] refuses together with all other faults.
func (l *Limit) UnmarshalText(text []byte) error {
	*l, _ = ParseLimit(string(text))
	return nil
}

// Check is the fault of a variable that holds no limit.
func (l Limit) Check(variable string) error {
	if l.N < 1 || l.Window <= 0 {
		return fmt.Errorf("%s is not of the form 5/1m", variable)
	}
	return nil
}

// String gives the form that [ParseLimit] reads.
func (l Limit) String() string { return strconv.Itoa(l.N) + "/" + l.WindowText() }

// WindowText gives the window alone: 1s, 5m, 1d.
func (l Limit) WindowText() string {
	for _, unit := range []struct {
		d    time.Duration
		name string
	}{{day, "d"}, {time.Hour, "h"}, {time.Minute, "m"}} {
		if l.Window >= unit.d && l.Window%unit.d == 0 {
			return strconv.FormatInt(int64(l.Window/unit.d), 10) + unit.name
		}
	}
	return l.Window.String()
}

// maxLog is the most admissions that the limits of a log make it hold.
const maxLog = 100_000

// kept is the limit as it is enforced. One above [maxLog] is kept in equal parts of its window, because a log of millions
// takes hundreds of megabytes: 10000000/1m as 100000/600ms. The parts of a window together never admit more than N, and a
// little less if they are uneven: N is rounded down, the window up to a microsecond. A burst has to fit into a part.
func (l Limit) kept() Limit {
	if l.N <= maxLog {
		return l
	}
	parts := (l.N + maxLog - 1) / maxLog
	window := (l.Window + time.Duration(parts) - 1) / time.Duration(parts)
	return Limit{l.N / parts, (window + time.Microsecond - 1).Truncate(time.Microsecond)}
}

// Decision is the answer for one request.
type Decision struct {
	Allowed bool
	Left    []int // admissions left at this instant under each limit, in the order of the limits
	// Reset is the time until the next slot is freed: of a refused request, until one passes; of an admitted one, until
	// its first limit frees the oldest slot that is taken.
	Reset    time.Duration
	Degraded bool // decided by this process alone
}

// Seconds is Reset in whole seconds, rounded up: a second earlier is too early.
func (d Decision) Seconds() int { return int(math.Ceil(d.Reset.Seconds())) }

// Store decides and, if all limits admit, records the admission, as one atomic step: a refusal leaves no trace. Safe for
// concurrent use.
type Store interface {
	Take(ctx context.Context, key string, limits ...Limit) (Decision, error)
}

// admit decides a request at clock from the log of admissions, oldest first, and returns the new log. It is what
// takeScript does in Redis.
//
// An admission at a is in no window with one at a+Window or later. The clock never runs backwards: until it has caught
// up with the newest admission, time stands still there. A clock that is behind by more than the longest window was
// wrong before; then what lies ahead of it counts as admitted now, so that nobody waits longer than two windows.
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
	// older counts the admissions that lie a window or more back.
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
