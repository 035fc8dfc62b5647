// Package crowd bounds how many requests are worked on at a time, so that a function that is asked for more than it can do answers as many
// as it can, and soon. Some of the others wait a moment for their turn, and are refused in the end; the rest are refused at once, which
// costs nearly nothing.
package crowd

import (
	"context"
	"time"

	"marketdata/shared/fault"
)

// patience is how long a request waits for its turn.
const patience = time.Second

// Crowd gives turns in the order in which they are asked for. Safe for concurrent use.
type Crowd struct{ turns, line chan struct{} }

// New returns a Crowd of which n have a turn at a time, and so many others wait in line. Each of these takes memory, and the connection of a
// client that could be told to come back: more than have their turn within a second wait in vain.
func New(n, line int) Crowd { return Crowd{make(chan struct{}, n), make(chan struct{}, line)} }

// Enter waits for a turn, which Leave ends. The error is Unavailable with code overloaded.
func (c Crowd) Enter(ctx context.Context) error {
	select {
	case c.turns <- struct{}{}:
		return nil
	default:
	}
	select {
	case c.line <- struct{}{}:
		defer func() { <-c.line }()
	default:
		return refusal()
	}
	end := time.NewTimer(patience)
	defer end.Stop()
	select {
	case c.turns <- struct{}{}:
		return nil
	case <-end.C:
	case <-ctx.Done():
	}
	return refusal()
}

func refusal() error {
	return fault.New(fault.Unavailable, fault.CodeOverloaded, "too many requests are in flight").After(time.Second)
}

// Leave ends a turn.
func (c Crowd) Leave() { <-c.turns }
