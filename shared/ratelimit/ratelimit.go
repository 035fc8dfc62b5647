// Package ratelimit limits clients exactly: no window [t, t+Window), however placed, admits more than N.
//
// It keeps a log of each client's last N admission times. The rule is a pure function ([admit]); Redis keeps the logs
// for all copies together ([Redis]), memory keeps them for one process ([Memory]). Not a fixed window, which admits 2N
// across an edge, and not GCRA, which admits 2N-1.
package ratelimit

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Limit admits at most N requests in any Window. It decodes from text such as "5/1m".
type Limit struct {
	N      int
	Window time.Duration
}

// UnmarshalText reads N/duration; both must be positive, N at most 10000.
func (l *Limit) UnmarshalText(text []byte) error {
	n, window, found := strings.Cut(string(text), "/")
	count, err := strconv.Atoi(n)
	if !found || err != nil || count < 1 || count > 10_000 {
		return fmt.Errorf("limit %q is not of the form 5/1m", text)
	}
	d, err := time.ParseDuration(window)
	if err != nil || d < time.Millisecond {
		return fmt.Errorf("limit %q is not of the form 5/1m", text)
	}
	*l = Limit{count, d}
	return nil
}

// String gives the form that UnmarshalText reads.
func (l Limit) String() string { return fmt.Sprintf("%d/%s", l.N, l.Window) }

// Decision is the answer for one request.
type Decision struct {
	Allowed   bool
	Remaining int           // admissions left at this instant
	Reset     time.Duration // until the next slot is freed; 0 if none is taken
	Degraded  bool          // decided by this process alone
}

// Store decides and, if it admits, records the admission, as one atomic step. Safe for concurrent use.
type Store interface {
	Take(ctx context.Context, key string, limit Limit) (Decision, error)
}

// admit decides a request at now from the log of admissions, oldest first, and returns the new log. A clock that went
// backwards is held at the newest admission. An admission at a is in no window with one at a+Window or later.
func admit(log []time.Time, now time.Time, limit Limit) ([]time.Time, Decision) {
	if n := len(log); n > 0 && log[n-1].After(now) {
		now = log[n-1]
	}
	for len(log) > 0 && now.Sub(log[0]) >= limit.Window {
		log = log[1:]
	}
	allowed := len(log) < limit.N
	if allowed {
		log = append(log, now)
	}
	d := Decision{Allowed: allowed, Remaining: max(limit.N-len(log), 0)}
	if len(log) > 0 {
		d.Reset = log[0].Add(limit.Window).Sub(now)
	}
	return log, d
}
