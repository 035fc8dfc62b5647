package main

import (
	"context"
	"sync"
	"time"

	"marketdata/shared/fault"
)

const (
	slots         = 16 // calls of one provider in flight, of all ticks of this process
	codeLimited   = "provider_rate_limited"
	shortestWait  = 10 * time.Millisecond // for a budget
	longestClosed = time.Minute           // then the provider is asked again, whatever it said
	hangsAfter    = slots / 2             // calls that timed out, one after the other
	probeStep     = 5 * time.Second       // between calls of auto to a provider that hangs
)

// lane is the way to one provider: its own slots, so that one that hangs holds up no other, and its own gate.
type lane struct {
	provider string
	slots    chan struct{}

	mu     sync.Mutex
	closed time.Time // no calls until then
	why    string    // the code of what closed it
	// Calls that timed out since the last that did not, and when auto may ask again.
	timeouts int
	probe    time.Time
}

// lane gives the provider's lane, which all ticks of this process share.
func (t *ticker) lane(provider string) *lane {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.lanes[provider]
	if l == nil {
		if t.lanes == nil {
			t.lanes = map[string]*lane{}
		}
		l = &lane{provider: provider, slots: make(chan struct{}, slots)}
		t.lanes[provider] = l
	}
	return l
}

// enter waits for a slot; false if ctx ends first.
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

// close keeps the gate shut for as long as err says, at most a minute.
func (l *lane) close(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed, l.why = time.Now().Add(min(waitOf(err), longestClosed)), fault.CodeOf(err)
}

// closedBy gives the code of what keeps the gate shut, empty if nothing does.
func (l *lane) closedBy() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Now().Before(l.closed) {
		return l.why
	}
	return ""
}

// note counts timeouts in a row.
func (l *lane) note(code string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.timeouts++; code != "provider_timeout" {
		l.timeouts = 0
	}
}

// hangs reports that the provider answers nobody: who has another to ask should not wait for it. Now and then it says no, so that
// one that is back is noticed.
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

func waitOf(err error) time.Duration {
	f, ok := fault.As(err)
	if !ok {
		return shortestWait
	}
	return max(shortestWait, f.RetryAfter)
}
