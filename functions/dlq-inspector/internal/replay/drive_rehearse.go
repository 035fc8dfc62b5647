package replay

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"marketdata/functions/dlq-inspector/internal/letter"
	"marketdata/shared/fault"
)

// rehearseAgain is the delay before the second request for a letter without a verdict.
const rehearseAgain = 300 * time.Millisecond

// rehearse is a dry run: it asks what would happen to the letters, in their order. They do not change, so the cursor moves only once a
// batch has all its verdicts.
func (d *drive) rehearse(ctx context.Context) error {
	for !d.isHalted() {
		all, err := d.next(ctx)
		if err == nil && len(all) > 0 {
			err = d.rehearseBatch(ctx, all)
		}
		if err != nil {
			return err
		}
		if d.end && len(d.ahead) == 0 {
			return nil
		}
	}
	return nil
}

func (d *drive) rehearseBatch(ctx context.Context, all []Candidate) error {
	a, takes := d.choose(all)
	d.passTo(&a, all[len(all)-1])
	ids, verdicts, err := d.verdicts(ctx, &a, takes)
	if err != nil {
		return err
	}
	settled, none := 0, ""
	for _, v := range verdicts {
		if v.Outcome != letter.OutcomeNone {
			settled++
			continue
		}
		none = v.Reason
	}
	if none != "" && settled == 0 && (!d.careful.Load() || !d.runner.replayer.ready(ctx)) {
		d.mu.Lock()
		d.trouble = none
		d.mu.Unlock()
		d.halt()
		return nil
	}
	for i, v := range verdicts {
		if v.Outcome == letter.OutcomeNone {
			v.Outcome, v.Code = letter.OutcomeSkipped, CodeNoVerdict
		}
		a.count(ids[i], v, true)
	}
	if settled > 0 {
		d.careful.Store(false)
	}
	a.Recent = strings.Repeat(string(recentAccepted), settled)
	if err := d.runner.store.Note(ctx, d.b, a); err != nil {
		return err
	}
	d.moved(a)
	return nil
}

// verdicts returns letters and the verdict on each, and adds samples to a. A letter without a verdict is asked about once more, a moment
// later.
func (d *drive) verdicts(ctx context.Context, a *Advance, takes []Take) ([]uuid.UUID, []letter.Verdict, error) {
	verdicts := make([]letter.Verdict, len(takes))
	ids := make([]uuid.UUID, len(takes))
	for i, t := range takes {
		ids[i] = t.ID
	}
	if d.b.Target == ToTopic {
		for i := range verdicts {
			verdicts[i].Outcome = letter.OutcomeSent
		}
		return ids, verdicts, nil
	}
	letters, err := d.runner.store.Letters(ctx, ids)
	if err != nil {
		return nil, nil, err
	}
	ids = ids[:len(letters)]
	var wg sync.WaitGroup
	verdicts = verdicts[:len(letters)]
	sent := make([][]byte, len(letters))
	for i, l := range letters {
		ids[i], sent[i] = l.ID, l.Value
		by, err := d.edited(ctx, l)
		if ctx.Err() != nil {
			return nil, nil, ctx.Err()
		}
		if err != nil {
			sent[i], verdicts[i] = nil, letter.Verdict{Outcome: letter.OutcomeSkipped, Code: fault.CodeOf(err), Reason: detailOf(err)}
			continue
		}
		if by != nil {
			sent[i] = by.written
		}
		wg.Go(func() {
			verdicts[i] = d.runner.replayer.rehearse(ctx, l, by)
			if verdicts[i].Outcome == letter.OutcomeNone && d.pause(rehearseAgain) {
				verdicts[i] = d.runner.replayer.rehearse(ctx, l, by)
			}
		})
	}
	wg.Wait()
	for i := 0; i < len(letters) && d.sampled < MaxSamples; i++ {
		d.sampled++
		a.Samples = append(a.Samples, sampleOf(letters[i], sent[i], verdicts[i]))
	}
	return ids, verdicts, nil
}

// pause returns true after the given time, or false as soon as the drive is halted.
func (d *drive) pause(during time.Duration) bool {
	select {
	case <-d.halted:
		return false
	case <-time.After(during):
		return true
	}
}
