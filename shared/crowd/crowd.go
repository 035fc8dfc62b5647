// Package crowd bounds how many requests are worked on at a time, so that a function that is asked for more than it can do answers as many
// as it can, and soon. The others wait a moment for their turn, and are refused in the end. How many wait is bounded by the connections of the
// server: see service.Bounded.
package crowd

import (
	"context"
	"time"

	"marketdata/shared/fault"
)

// Crowd gives turns in the order in which they are asked for. Safe for concurrent use.
type Crowd struct {
	turns    chan struct{}
	patience time.Duration
}

// New returns a Crowd of which n have a turn at a time, while the others wait for as long as patience. A request that waits keeps its client
// from sending the next one, which costs less than to refuse both.
func New(n int, patience time.Duration) Crowd { return Crowd{make(chan struct{}, n), patience} }

// Enter waits for a turn, which Leave ends. The error is Unavailable with code overloaded.
func (c Crowd) Enter(ctx context.Context) error {
	select {
	case c.turns <- struct{}{}:
		return nil
	default:
	}
	end := time.NewTimer(c.patience)
	defer end.Stop()
	select {
	case c.turns <- struct{}{}:
		return nil
	case <-end.C:
	case <-ctx.Done():
	}
	return fault.New(fault.Unavailable, fault.CodeOverloaded, "too many requests are in flight").After(time.Second)
}

// Leave ends a turn.
func (c Crowd) Leave() { <-c.turns }
