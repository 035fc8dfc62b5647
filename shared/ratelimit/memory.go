package ratelimit

import (
	"context"
	"sync"
	"time"
)

// Memory is a Store for one process. Make it with [NewMemory].
type Memory struct {
	now     func() time.Time
	mu      sync.Mutex
	logs    map[string]*memoryLog
	sweepAt int // number of logs at which those with nothing left in their window are forgotten
}

type memoryLog struct {
	admitted []time.Time
	expires  time.Time
}

// sweepAbove is how many clients are remembered before any is forgotten.
const sweepAbove = 10_000

// NewMemory makes an empty store on the clock now.
func NewMemory(now func() time.Time) *Memory {
	return &Memory{now: now, logs: map[string]*memoryLog{}, sweepAt: sweepAbove}
}

// Take implements Store; it never fails.
func (m *Memory) Take(_ context.Context, key string, limits ...Limit) (Decision, error) {
	return m.take(key, limits), nil
}

func (m *Memory) take(key string, limits []Limit) Decision {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	l := m.logs[key]
	if l == nil {
		m.sweep(now)
		l = &memoryLog{}
		m.logs[key] = l
	}
	var d Decision
	l.admitted, d = admit(l.admitted, now, limits)
	for _, limit := range limits {
		if n := len(l.admitted); n > 0 { // the newest may lie ahead of a clock that went back
			l.expires = later(l.expires, l.admitted[n-1].Add(limit.Window))
		}
	}
	return d
}

// sweep forgets the logs that can refuse nobody any more. The next sweep waits until twice as many are there as this one
// leaves, so that a flood of clients costs each of them a constant share.
func (m *Memory) sweep(now time.Time) {
	if len(m.logs) < m.sweepAt {
		return
	}
	for key, l := range m.logs {
		if !l.expires.After(now) {
			delete(m.logs, key)
		}
	}
	m.sweepAt = max(sweepAbove, 2*len(m.logs))
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

var _ Store = (*Memory)(nil)
