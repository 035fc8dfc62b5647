package replay

import (
	"cmp"
	"context"
	"slices"

	"github.com/google/uuid"

	"marketdata/functions/dlq-inspector/internal/letter"
	"marketdata/shared/fault"
)

// most returns how many letters are taken at a time: those of a tenth of a second, so that they are settled soon.
func (d *drive) most() int {
	if d.careful.Load() {
		return 1
	}
	return min(max(d.b.Rate/10, 1), laneLetters)
}

// next waits until a batch may be sent and returns its candidates. None: no letter is left, or the drive was halted.
func (d *drive) next(ctx context.Context) ([]Candidate, error) {
	if len(d.ahead) == 0 && !d.end {
		b := d.b
		b.Cursor, b.At = d.cursor, d.at
		var err error
		if d.ahead, err = d.runner.store.Selected(ctx, b, lookAhead); err != nil {
			return nil, err
		}
		d.end = len(d.ahead) == 0
	}
	n, bytes := 0, int64(0)
	for _, c := range d.ahead[:min(d.most(), len(d.ahead))] {
		// A letter that had troubles is sent alone: if it makes the function fail, no other letter is affected.
		if n > 0 && (c.Troubles > 0 || bytes+c.Bytes > laneBytes) {
			break
		}
		n, bytes = n+1, bytes+c.Bytes
		if c.Troubles > 0 {
			break
		}
	}
	if n == 0 || !d.pace.wait(d.halted, n) {
		return nil, nil
	}
	taken := d.ahead[:n]
	d.ahead = d.ahead[n:]
	return taken, nil
}

// takeSelected claims the next letters and moves the cursor past them.
func (d *drive) takeSelected(ctx context.Context) (batch, error) {
	all, err := d.next(ctx)
	if err != nil || len(all) == 0 {
		return batch{}, err
	}
	a, takes := d.choose(all)
	takes, edits, err := d.edit(ctx, &a, takes)
	if err != nil {
		return batch{}, err
	}
	d.passTo(&a, all[len(all)-1])
	letters, err := d.runner.store.Claim(ctx, d.b, a, takes, nil)
	if err == nil {
		d.moved(a)
	}
	return batch{d.inOrder(letters), edits}, err
}

// edit applies the program to letters before they are taken. A letter on which it fails is skipped, and the others have the value that
// is sent.
func (d *drive) edit(ctx context.Context, a *Advance, takes []Take) ([]Take, map[uuid.UUID]*edit, error) {
	if d.b.Transform == "" || len(takes) == 0 {
		return takes, nil, nil
	}
	ids := make([]uuid.UUID, len(takes))
	for i, t := range takes {
		ids[i] = t.ID
	}
	letters, err := d.runner.store.Letters(ctx, ids)
	if err != nil {
		return nil, nil, err
	}
	edits := map[uuid.UUID]*edit{}
	for _, l := range letters {
		by, err := d.edited(ctx, l)
		if ctx.Err() != nil {
			return nil, nil, ctx.Err()
		}
		edits[l.ID] = by
		if err != nil {
			a.skip(l.ID, fault.CodeOf(err), detailOf(err))
		}
	}
	takes = slices.DeleteFunc(takes, func(t Take) bool { return edits[t.ID] == nil })
	for i, t := range takes {
		takes[i].Value = edits[t.ID].written
	}
	return takes, edits, nil
}

// edited returns what the program makes of a letter, nil without a program. Errors are those of [Transformed] and of the event's schema.
func (d *drive) edited(ctx context.Context, l letter.Stored) (*edit, error) {
	if d.unable != nil || d.program == nil {
		return nil, d.unable
	}
	value, err := Transformed(ctx, d.program, l)
	if err != nil {
		return nil, err
	}
	return readEdit(value, d.runner.replayer.Now())
}

// inOrder sorts letters by origin if they are sent to topics.
func (d *drive) inOrder(letters []letter.Stored) []letter.Stored {
	if d.b.Target == ToTopic {
		slices.SortFunc(letters, func(a, b letter.Stored) int {
			return cmp.Or(cmp.Compare(a.Origin.Topic, b.Origin.Topic), cmp.Compare(a.Origin.Partition, b.Origin.Partition), cmp.Compare(a.Origin.Offset, b.Origin.Offset))
		})
	}
	return letters
}

// passTo moves the cursor past a letter.
func (d *drive) passTo(a *Advance, last Candidate) {
	if d.b.Target == ToTopic && last.Origin != nil {
		a.At = last.Origin
	} else {
		a.Cursor = &last.ID
	}
}

// moved remembers an advance that was written.
func (d *drive) moved(a Advance) {
	if a.Cursor != nil {
		d.cursor = *a.Cursor
	}
	d.at = cmp.Or(a.At, d.at)
	d.runner.metrics.settled(a.Outcomes)
}

// takeOwed claims letters that this replay took before.
func (d *drive) takeOwed(ctx context.Context) (batch, error) {
	all, err := d.next(ctx)
	if err != nil || len(all) == 0 {
		return batch{}, err
	}
	// A letter that an operator replays at the moment still waits.
	all = slices.DeleteFunc(slices.Clone(all), func(c Candidate) bool { return c.Status == letter.Replaying })
	a, takes := d.choose(all)
	takes, edits, err := d.edit(ctx, &a, takes)
	if err != nil {
		return batch{}, err
	}
	var freed []uuid.UUID
	for _, c := range all {
		if !slices.ContainsFunc(takes, func(t Take) bool { return t.ID == c.ID }) {
			freed = append(freed, c.ID)
		}
	}
	letters, err := d.runner.store.Claim(ctx, d.b, a, takes, freed)
	if err == nil {
		d.runner.metrics.settled(a.Outcomes)
	}
	return batch{d.inOrder(letters), edits}, err
}

// choose decides which letters are taken, and counts those that are skipped.
func (d *drive) choose(all []Candidate) (a Advance, takes []Take) {
	a = newAdvance()
	for _, c := range all {
		sendable := d.runner.replayer.sendable(c.Exact, c.Origin)
		switch what, why := d.b.decide(c, sendable, d.runner.replayer.MaxReplays); what {
		case doTake, doWait:
			takes = append(takes, Take{ID: c.ID, Token: uuid.New(), Count: c.ReplayCount, Begin: what == doTake})
		case doSkip:
			a.skip(c.ID, fault.CodeOf(why), detailOf(why))
		}
	}
	return a, takes
}
