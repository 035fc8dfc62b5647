package ratelimit

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"
)

// Fallback asks a shared store within a time budget and decides alone where that fails: the same rule with the limit
// divided by the most copies there may be, so that all copies together admit about the limit.
type Fallback struct {
	Shared   Store
	Local    Store
	Budget   time.Duration // for one answer of Shared
	Copies   int           // MAX_COPIES
	Log      *slog.Logger
	degraded atomic.Bool
}

// Take implements Store; it never fails. One log line is written per change of mode.
func (f *Fallback) Take(ctx context.Context, key string, limit Limit) (Decision, error) {
	bounded, cancel := context.WithTimeout(ctx, f.Budget)
	defer cancel()
	d, err := f.Shared.Take(bounded, key, limit)
	if err == nil {
		if f.degraded.CompareAndSwap(true, false) {
			f.Log.InfoContext(ctx, "limits are shared again")
		}
		return d, nil
	}
	if f.degraded.CompareAndSwap(false, true) {
		f.Log.WarnContext(ctx, "limits are decided by this copy alone", "err", err)
	}
	d, err = f.Local.Take(ctx, key, Limit{max(limit.N/max(f.Copies, 1), 1), limit.Window})
	d.Degraded = true
	return d, err
}

// Degraded reports the mode of the last decision.
func (f *Fallback) Degraded() bool { return f.degraded.Load() }

var _ Store = (*Fallback)(nil)
