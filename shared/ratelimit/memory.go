package ratelimit

import (
	"context"
	"sync"
	"time"
)

// Memory is a Store for one process. Create it with [NewMemory].
type Memory struct {
	now     func() time.Time
	mu      sync.Mutex
	logs    map[string]*memoryLog
	held    int // admissions in all logs
	sweepAt int // number of logs at which expired logs are deleted
	holdAt  int // number of admissions at which they are, too
}

type memoryLog struct {
	admitted []time.Time
	expires  time.Time
}

// Least numbers of logs and of admissions before expired logs are deleted.
const (
	sweepAbove = 10_000
	holdAbove  = 250_000 // 6 MB
)

// NewMemory returns an empty store that uses the clock now.
func NewMemory(now func() time.Time) *Memory {
	return &Memory{now: now, logs: map[string]*memoryLog{}, sweepAt: sweepAbove, holdAt: holdAbove}
}

// Take implements Store; it never fails.
func (m *Memory) Take(_ context.Context, key string, limits ...Limit) (Decision, error) {
	return m.take(key, limits), nil
}

func (m *Memory) take(key string, limits []Limit) Decision {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	m.sweep(now)
	l := m.logs[key]
	if l == nil {
		l = &memoryLog{}
		m.logs[key] = l
	}
	var d Decision
	m.held -= len(l.admitted)
	l.admitted, d = admit(l.admitted, now, limits)
	m.held += len(l.admitted)
	for _, limit := range limits {
		if n := len(l.admitted); n > 0 { // the newest may be ahead of the clock, if that went back
			l.expires = later(l.expires, l.admitted[n-1].Add(limit.kept().Window))
		}
	}
	return d
}

// sweep deletes expired logs, which can refuse no request. The next sweep waits until there is twice as much as this one leaves, so
// that its cost per request is constant even in a flood of clients.
func (m *Memory) sweep(now time.Time) {
	if len(m.logs) < m.sweepAt && m.held < m.holdAt {
		return
	}
	for key, l := range m.logs {
		if !l.expires.After(now) {
			m.held -= len(l.admitted)
			delete(m.logs, key)
		}
	}
	m.sweepAt, m.holdAt = max(sweepAbove, 2*len(m.logs)), max(holdAbove, 2*m.held)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

var _ Store = (*Memory)(nil)
