package ratelimit

import (
	"context"
	"sync"
	"time"
)

// Memory is a Store for one process. Make it with [NewMemory].
type Memory struct {
	now  func() time.Time
	mu   sync.Mutex
	logs map[string]*memoryLog
}

type memoryLog struct {
	admitted []time.Time
	expires  time.Time
}

// sweepAbove is how many clients are remembered before those with nothing left in their window are forgotten.
const sweepAbove = 10_000

// NewMemory makes an empty store on the clock now.
func NewMemory(now func() time.Time) *Memory { return &Memory{now: now, logs: map[string]*memoryLog{}} }

// Take implements Store; it never fails.
func (m *Memory) Take(_ context.Context, key string, limit Limit) (Decision, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	if len(m.logs) > sweepAbove {
		for k, l := range m.logs {
			if !l.expires.After(now) {
				delete(m.logs, k)
			}
		}
	}
	l := m.logs[key]
	if l == nil {
		l = &memoryLog{}
		m.logs[key] = l
	}
	var d Decision
	l.admitted, d = admit(l.admitted, now, limit)
	l.expires = now.Add(limit.Window)
	return d, nil
}

var _ Store = (*Memory)(nil)
