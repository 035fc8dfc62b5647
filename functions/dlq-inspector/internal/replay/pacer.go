package replay

import (
	"sync"
	"time"
)

// pacer spreads letters over time. The zero value of next means now. Safe for concurrent use.
type pacer struct {
	every time.Duration // between two letters
	mu    sync.Mutex
	next  time.Time
}

// wait returns true when n letters may be sent, or false as soon as halted is closed.
func (p *pacer) wait(halted <-chan struct{}, n int) bool {
	p.mu.Lock()
	now := time.Now()
	if p.next.Before(now) {
		p.next = now
	}
	due := p.next.Sub(now)
	p.next = p.next.Add(time.Duration(n) * p.every)
	p.mu.Unlock()
	t := time.NewTimer(due)
	defer t.Stop()
	select {
	case <-halted:
		return false
	case <-t.C:
		return true
	}
}
