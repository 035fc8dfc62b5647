package replay

import (
	"context"

	"github.com/google/uuid"

	"marketdata/functions/dlq-inspector/internal/letter"
)

// discard sets letters aside, many in one transaction. Nothing is sent, so a discard keeps to no rate, and no letter is owed an outcome.
func (d *drive) discard(ctx context.Context) error {
	for !d.isHalted() {
		b := d.b
		b.Cursor = d.cursor
		all, err := d.runner.store.Selected(ctx, b, lookAhead)
		if err != nil || len(all) == 0 {
			return err
		}
		a, takes := d.choose(all)
		d.passTo(&a, all[len(all)-1])
		ids := make([]uuid.UUID, len(takes))
		for i, t := range takes {
			ids[i] = t.ID
		}
		if d.b.DryRun {
			for _, id := range ids {
				a.count(id, letter.Verdict{Outcome: letter.OutcomeDiscarded}, true)
			}
			err = d.runner.store.Note(ctx, d.b, a)
		} else {
			a, err = d.runner.store.Discard(ctx, d.b, a, ids)
		}
		if err != nil {
			return err
		}
		d.moved(a)
	}
	return nil
}
