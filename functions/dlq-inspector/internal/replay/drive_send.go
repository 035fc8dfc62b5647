package replay

import (
	"context"
	"strings"
	"sync"

	"marketdata/functions/dlq-inspector/internal/letter"
	"marketdata/shared/fault"
	"marketdata/shared/kafkaclient"
)

// send delivers letters concurrently and returns the verdict on each. Copies of one partition are sent one after the other; once one of
// them was not acknowledged, those behind it are not sent.
func (d *drive) send(ctx context.Context, b batch) []letter.Verdict {
	letters := b.letters
	verdicts := make([]letter.Verdict, len(letters))
	var wg sync.WaitGroup
	if d.b.Target != ToTopic {
		for i, l := range letters {
			wg.Go(func() { verdicts[i] = d.runner.replayer.attempt(ctx, l, *l.Token, ToFunction, b.edits[l.ID]) })
		}
		wg.Wait()
		return verdicts
	}
	byPartition := map[kafkaclient.Place][]int{}
	for i, l := range letters {
		p := kafkaclient.Place{Topic: l.Origin.Topic, Partition: l.Origin.Partition}
		byPartition[p] = append(byPartition[p], i)
	}
	for _, group := range byPartition {
		wg.Go(func() {
			blocked := false
			for _, i := range group {
				if blocked {
					verdicts[i] = noVerdict(CodeNotTried, "not sent: the copy before it was not acknowledged")
					continue
				}
				verdicts[i] = d.runner.replayer.attempt(ctx, letters[i], *letters[i].Token, ToTopic, nil)
				blocked = verdicts[i].Outcome == letter.OutcomeNone
			}
		})
	}
	wg.Wait()
	return verdicts
}

// finish settles a batch. Without any verdict the cause is probably not the letters', and the replay is paused. A letter is itself the
// cause if others get their verdicts, or if the function says that it is ready.
func (d *drive) finish(ctx context.Context, letters []letter.Stored, verdicts []letter.Verdict) error {
	settled, none := 0, letter.Verdict{}
	for _, v := range verdicts {
		if v.Outcome != letter.OutcomeNone {
			settled++
		} else if none.Outcome == "" || none.Code == CodeNotTried {
			none = v
		}
	}
	own := settled > 0 || none.Outcome != "" && d.b.Target == ToFunction && ctx.Err() == nil && d.runner.replayer.ready(ctx)
	results, a := make([]Result, len(letters)), newAdvance()
	var recent strings.Builder
	for i, l := range letters {
		results[i] = d.judge(l, verdicts[i], own && verdicts[i].Code != CodeNotTried)
		v := results[i].Verdict
		if results[i].Owed {
			continue
		}
		a.count(l.ID, v, v.Outcome == letter.OutcomeSkipped)
		switch v.Outcome {
		case letter.OutcomeRefused:
			recent.WriteByte(recentRefused)
		case letter.OutcomeSkipped:
		default:
			recent.WriteByte(recentAccepted)
		}
	}
	a.Recent = recent.String()
	d.mu.Lock()
	d.recent, a.Stop = d.b.remember(d.recent, a.Recent)
	pause := settled == 0 && (!own || letters[0].Troubles == 0)
	if pause {
		d.trouble = none.Reason
	}
	d.mu.Unlock()
	if pause || a.Stop != "" {
		d.halt()
	} else {
		d.careful.Store(false)
	}
	if err := fault.Insist(context.WithoutCancel(ctx), func(ctx context.Context) error { return d.runner.store.Settle(ctx, d.b, a, results) }); err != nil {
		return err
	}
	d.runner.metrics.settled(a.Outcomes)
	return nil
}

// judge returns the result of a verdict on a letter. own says that the letter is itself the cause if there is no verdict: after
// MaxTroubles such attempts it is skipped.
func (d *drive) judge(l letter.Stored, v letter.Verdict, own bool) Result {
	r := Result{Letter: l, Verdict: v, Owed: v.Outcome == letter.OutcomeNone}
	if r.Owed && own {
		if l.Troubles++; l.Troubles >= MaxTroubles {
			r.Verdict, r.Owed = letter.Verdict{Outcome: letter.OutcomeSkipped, Code: CodeNoVerdict, Reason: v.Reason}, false
		}
	}
	var err error
	if r.After, err = l.End(*l.Token, v.Outcome); err != nil {
		panic(err) // it was claimed under this token
	}
	if !r.Owed {
		r.After.Troubles = 0
	}
	return r
}
