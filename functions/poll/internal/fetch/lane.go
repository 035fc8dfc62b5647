package fetch

import (
	"context"
	"sync"
	"time"

	"marketdata/functions/poll/internal/jobs"
	"marketdata/shared/fault"
)

// Slots is how many calls of one provider may be in flight, for all ticks of this process.
const Slots = 16

const (
	shortestWait  = 10 * time.Millisecond // for a budget
	longestClosed = time.Minute           // then the provider is asked again, whatever it said
	hangsAfter    = Slots / 2             // calls that timed out in a row
	probeStep     = 5 * time.Second       // between calls of auto to a provider that hangs
)

// lane is the way to one provider. It has slots of its own, so that a provider that hangs does not delay others, and a gate of its own.
type lane struct {
	provider string
	slots    chan struct{}

	mu       sync.Mutex
	closed   time.Time    // the gate: no calls until then
	why      jobs.Outcome // the code of what closed it
	timeouts int          // calls that timed out since the last that did not
	probe    time.Time    // when auto may ask a provider that hangs again
}

func newLane(provider string) *lane {
	return &lane{provider: provider, slots: make(chan struct{}, Slots)}
}

// enter waits for a slot. It returns false if ctx ends first.
func (l *lane) enter(ctx context.Context) bool {
	if isOver(ctx) {
		return false
	}
	select {
	case l.slots <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (l *lane) leave() { <-l.slots }

// close closes the gate for as long as err says, at most a minute.
func (l *lane) close(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed, l.why = time.Now().Add(min(waitOf(err), longestClosed)), codeOf(err)
}

// gate returns OK if calls may be made, else the code of what closed the gate.
func (l *lane) gate() jobs.Outcome {
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Now().Before(l.closed) {
		return l.why
	}
	return jobs.OK
}

// note counts timeouts in a row. err is the outcome of a call.
func (l *lane) note(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.timeouts++; codeOf(err) != fault.CodeProviderTimeout {
		l.timeouts = 0
	}
}

// hangs reports that the provider answers no call, so that callers that have another provider should not wait for this one. Every
// probeStep it returns false once, so that one caller finds out when the provider is back.
func (l *lane) hangs() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if l.timeouts < hangsAfter || !now.Before(l.probe) {
		l.probe = now.Add(probeStep)
		return false
	}
	return true
}

// waitOf returns how long err says to wait before the next call.
func waitOf(err error) time.Duration {
	f, ok := fault.As(err)
	if !ok {
		return shortestWait
	}
	return max(shortestWait, f.RetryAfter)
}

// codeOf returns the outcome of an error.
func codeOf(err error) jobs.Outcome { return jobs.Outcome(fault.CodeOf(err)) }
