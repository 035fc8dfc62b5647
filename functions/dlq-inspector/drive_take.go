package main

import (
	"cmp"
	"context"
	"slices"

	"github.com/google/uuid"
)

// batch is how many letters are taken at a time: a tenth of a second's, so that what was taken is soon settled.
func (d *drive) batch() int {
	if d.careful.Load() {
		return 1
	}
	return min(max(d.b.Rate/10, 1), laneLetters)
}

// next takes candidates off what was looked up, as many as a batch has, once it is their time.
func (d *drive) next(ctx context.Context) ([]candidate, error) {
	if len(d.ahead) == 0 && !d.end {
		b := d.b
		b.Cursor, b.At = d.cursor, d.at
		var err error
		if d.ahead, err = d.store.selected(ctx, b, lookAhead); err != nil {
			return nil, err
		}
		d.end = len(d.ahead) == 0
	}
	n, bytes := 0, int64(0)
	for _, c := range d.ahead[:min(d.batch(), len(d.ahead))] {
		// One that had troubles goes alone: if it brings the function down, it takes no other letter with it.
		if n > 0 && (c.troubles > 0 || bytes+c.bytes > laneBytes) {
			break
		}
		n, bytes = n+1, bytes+c.bytes
		if c.troubles > 0 {
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

func (d *drive) sendable(c candidate) bool {
	return d.replay.sendable(stored{Exact: c.exact, Origin: c.origin})
}

// takeSelected claims the letters that come next and moves the cursor past them.
func (d *drive) takeSelected(ctx context.Context) ([]stored, error) {
	all, err := d.next(ctx)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	a, takes := d.choose(all)
	d.passTo(&a, all[len(all)-1])
	letters, err := d.store.claim(ctx, d.b, a, takes, nil)
	if err == nil {
		d.moved(a)
	}
	return d.inOrder(letters), err
}

// inOrder sorts copies by the places of their records.
func (d *drive) inOrder(letters []stored) []stored {
	if d.b.Target == toTopic {
		slices.SortFunc(letters, func(a, b stored) int {
			return cmp.Or(cmp.Compare(a.Origin.Topic, b.Origin.Topic), cmp.Compare(a.Origin.Partition, b.Origin.Partition), cmp.Compare(a.Origin.Offset, b.Origin.Offset))
		})
	}
	return letters
}

// passTo moves the cursor past a letter.
func (d *drive) passTo(a *advance, last candidate) {
	if d.b.Target == toTopic && last.origin != nil {
		a.at = last.origin
	} else {
		a.cursor = &last.id
	}
}

// moved takes over what was written.
func (d *drive) moved(a advance) {
	if a.cursor != nil {
		d.cursor = *a.cursor
	}
	d.at = cmp.Or(a.at, d.at)
	d.count(a.outcomes)
}

// takeOwed claims letters that were taken before.
func (d *drive) takeOwed(ctx context.Context) ([]stored, error) {
	all, err := d.next(ctx)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	// One that somebody replays just now keeps waiting.
	all = slices.DeleteFunc(slices.Clone(all), func(c candidate) bool { return c.Status == statusReplaying })
	a, takes := d.choose(all)
	var freed []uuid.UUID
	for _, c := range all {
		if !slices.ContainsFunc(takes, func(t take) bool { return t.id == c.id }) {
			freed = append(freed, c.id)
		}
	}
	letters, err := d.store.claim(ctx, d.b, a, takes, freed)
	if err == nil {
		d.count(a.outcomes)
	}
	return d.inOrder(letters), err
}

// choose decides on letters: which are taken, and what is noted of those that are skipped.
func (d *drive) choose(all []candidate) (a advance, takes []take) {
	a = advance{outcomes: map[string]int64{}, reasons: map[string]int64{}}
	for _, c := range all {
		switch what, code := d.b.decide(c, d.sendable(c), d.replay.maxReplays); what {
		case doTake, doWait:
			takes = append(takes, take{id: c.id, token: uuid.New(), count: c.ReplayCount, begin: what == doTake})
		case doSkip:
			a.outcomes[outcomeSkipped]++
			a.reasons[code]++
		}
	}
	return a, takes
}

func (d *drive) count(outcomes map[string]int64) {
	for outcome, n := range outcomes {
		d.metrics.replays(outcome).Add(int(n))
	}
}
