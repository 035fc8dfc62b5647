// Package crowd bounds how many requests are worked on at a time, so that a function that is asked for more than it can do answers as many
// as it can, and soon. The others wait a moment for their turn, and are refused in the end, which costs nearly nothing.
package crowd

import (
	"context"
	"time"

	"marketdata/shared/fault"
)

// patience is how long a request waits for its turn.
const patience = time.Second

// Crowd gives turns in the order in which they are asked for. Safe for concurrent use.
type Crowd chan struct{}

// New returns a Crowd of which n have a turn at a time.
func New(n int) Crowd { return make(Crowd, n) }

// Enter waits for a turn, which Leave ends. The error is Unavailable with code overloaded.
func (c Crowd) Enter(ctx context.Context) error {
	select {
	case c <- struct{}{}:
		return nil
	default:
	}
	end := time.NewTimer(patience)
	defer end.Stop()
	select {
	case c <- struct{}{}:
		return nil
	case <-end.C:
	case <-ctx.Done():
	}
	return fault.New(fault.Unavailable, fault.CodeOverloaded, "too many requests are in flight").After(time.Second)
}

// Leave ends a turn.
func (c Crowd) Leave() { <-c }
