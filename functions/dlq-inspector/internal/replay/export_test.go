package replay

import (
	"context"

	"marketdata/functions/dlq-inspector/internal/letter"
)

// Turn is a process's turn at a bulk replay, for tests that interrupt it.
type Turn struct{ d *drive }

// Turn begins a turn at b, which was claimed.
func (r *Runner) Turn(b Bulk) Turn { return Turn{newDrive(r, b)} }

// TakeSelected takes the next batch and leaves it in flight.
func (t Turn) TakeSelected(ctx context.Context) ([]letter.Stored, error) {
	b, err := t.d.takeSelected(ctx)
	return b.letters, err
}

// Judge returns the result of a verdict.
func (t Turn) Judge(l letter.Stored, v letter.Verdict) Result { return t.d.judge(l, v, false) }
