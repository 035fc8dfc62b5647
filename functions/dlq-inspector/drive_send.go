package main

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"marketdata/shared/fault"
)

// pacer spreads letters over time. The zero value of next starts now. Safe for concurrent use.
type pacer struct {
	every time.Duration
	mu    sync.Mutex
	next  time.Time
}

// wait returns when n letters may go; false: halted was closed before.
func (p *pacer) wait(halted <-chan struct{}, n int) bool {
	p.mu.Lock()
	now := time.Now()
	if p.next.Before(now) {
		p.next = now
	}
	due := p.next.Sub(now)
	p.next = p.next.Add(time.Duration(n) * p.every)
	p.mu.Unlock()
	t := time.NewTimer(due)
	defer t.Stop()
	select {
	case <-halted:
		return false
	case <-t.C:
		return true
	}
}

// send delivers letters, all at once, and gives a verdict on each. Copies to topics go in the order of their records: those of one
// partition one after the other, none past one that was not acknowledged.
func (d *drive) send(ctx context.Context, letters []stored) []verdict {
	verdicts := make([]verdict, len(letters))
	var wg sync.WaitGroup
	if d.b.Target != toTopic {
		for i, l := range letters {
			wg.Go(func() { verdicts[i] = d.replay.attempt(ctx, l, *l.token, toFunction, nil) })
		}
		wg.Wait()
		return verdicts
	}
	byPartition := map[place][]int{}
	for i, l := range letters {
		p := place{Topic: l.Origin.Topic, Partition: l.Origin.Partition}
		byPartition[p] = append(byPartition[p], i)
	}
	for _, group := range byPartition {
		wg.Go(func() {
			blocked := false
			for _, i := range group {
				if blocked {
					verdicts[i] = verdict{outcomeNone, codeNotTried, "not sent: the copy before it was not acknowledged"}
					continue
				}
				verdicts[i] = d.replay.attempt(ctx, letters[i], *letters[i].token, toTopic, nil)
				blocked = verdicts[i].outcome == outcomeNone
			}
		})
	}
	wg.Wait()
	return verdicts
}

// codeNotTried is of letters that were taken and not sent.
const codeNotTried = "not_tried"

// finish settles a batch. Without any verdict the trouble is everybody's, and the replay rests; a letter counts a trouble as its own
// if others get their verdicts, or the function says that it is ready.
func (d *drive) finish(ctx context.Context, letters []stored, verdicts []verdict) {
	settled, none := 0, verdict{}
	for _, v := range verdicts {
		if v.outcome != outcomeNone {
			settled++
		} else if none.outcome == "" || none.code == codeNotTried {
			none = v
		}
	}
	own := settled > 0 || none.outcome != "" && d.b.Target == toFunction && ctx.Err() == nil && d.replay.ready(ctx)
	results, a := make([]result, len(letters)), advance{outcomes: map[string]int64{}, reasons: map[string]int64{}}
	var recent strings.Builder
	for i, l := range letters {
		results[i] = d.judge(l, verdicts[i], own && verdicts[i].code != codeNotTried)
		v := results[i].verdict
		if results[i].owed {
			continue
		}
		a.outcomes[v.outcome]++
		switch v.outcome {
		case outcomeRefused:
			recent.WriteByte('r')
			a.reasons[v.code]++
		case outcomeSkipped:
			a.reasons[v.code]++
		default:
			recent.WriteByte('a')
		}
	}
	a.recent = recent.String()
	d.mu.Lock()
	d.recent, a.stop = d.b.remember(d.recent, a.recent)
	rest := settled == 0 && (!own || letters[0].troubles == 0)
	if rest {
		d.trouble = none.reason
	}
	d.mu.Unlock()
	if rest || a.stop != "" {
		d.halt()
	} else {
		d.careful.Store(false)
	}
	d.write(ctx, a, results)
}

// judge says what a verdict makes of a letter; own, that a trouble is its own.
func (d *drive) judge(l stored, v verdict, own bool) result {
	r := result{letter: l, verdict: v, owed: v.outcome == outcomeNone}
	if r.owed && own {
		if l.troubles++; l.troubles >= maxTroubles {
			r.verdict, r.owed = verdict{outcomeSkipped, "no_verdict", v.reason}, false
		}
	}
	var err error
	if r.after, err = l.end(*l.token, v.outcome); err != nil {
		panic(err) // it was claimed under this token
	}
	if !r.owed {
		r.after.troubles = 0
	}
	return r
}

// write settles results.
func (d *drive) write(ctx context.Context, a advance, results []result) {
	err := persist(ctx, func(ctx context.Context) error { return d.store.settle(ctx, d.b, a, results) })
	if err != nil {
		d.fail(err)
		return
	}
	d.count(a.outcomes)
}

// persist writes, again after trouble with the database: what is written is worth it. f may be called after an attempt that was
// committed although its answer was lost.
func persist(ctx context.Context, f func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), changeTimeout)
	defer cancel()
	for try := 0; ; try++ {
		err := f(ctx)
		if err == nil || fault.KindOf(err) != fault.Unavailable || try == changeTries-1 {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(100 * time.Millisecond << try):
		}
	}
}

// plan rehearses letters in their order. Nothing of them changes, so the cursor moves once a batch has all its verdicts.
func (d *drive) plan(ctx context.Context) {
	for !d.over() {
		all, err := d.next(ctx)
		if err == nil && len(all) > 0 {
			err = d.planBatch(ctx, all)
		}
		if err != nil {
			d.fail(err)
		}
		if d.end && len(d.ahead) == 0 {
			return
		}
	}
}

func (d *drive) planBatch(ctx context.Context, all []candidate) error {
	a, takes := d.choose(all)
	d.passTo(&a, all[len(all)-1])
	verdicts, err := d.rehearseAll(ctx, takes)
	if err != nil {
		return err
	}
	settled, none := 0, ""
	for _, v := range verdicts {
		if v.outcome != outcomeNone {
			settled++
			continue
		}
		none = v.reason
	}
	if none != "" && settled == 0 && (!d.careful.Load() || !d.replay.ready(ctx)) {
		d.mu.Lock()
		d.trouble = none
		d.mu.Unlock()
		d.halt()
		return nil
	}
	for _, v := range verdicts {
		if v.outcome == outcomeNone {
			v.outcome, v.code = outcomeSkipped, "no_verdict"
		}
		if a.outcomes[v.outcome]++; v.code != "" {
			a.reasons[v.code]++
		}
	}
	if settled > 0 {
		d.careful.Store(false)
	}
	a.recent = strings.Repeat("a", settled)
	if err := d.store.note(ctx, d.b, a); err != nil {
		return err
	}
	d.moved(a)
	return nil
}

// rehearseAgain is when a letter without a verdict is asked about again.
const rehearseAgain = 300 * time.Millisecond

// pause reports whether the drive goes on after a while.
func (d *drive) pause(during time.Duration) bool {
	select {
	case <-d.halted:
		return false
	case <-time.After(during):
		return true
	}
}

// rehearseAll gives a verdict on each letter. One without is asked about once more, a moment later.
func (d *drive) rehearseAll(ctx context.Context, takes []take) ([]verdict, error) {
	verdicts := make([]verdict, len(takes))
	if d.b.Target == toTopic {
		for i := range verdicts {
			verdicts[i].outcome = outcomeSent
		}
		return verdicts, nil
	}
	ids := make([]uuid.UUID, len(takes))
	for i, t := range takes {
		ids[i] = t.id
	}
	letters, err := d.store.whole(ctx, ids)
	if err != nil {
		return nil, err
	}
	var wg sync.WaitGroup
	verdicts = verdicts[:len(letters)]
	for i, l := range letters {
		wg.Go(func() {
			verdicts[i] = d.replay.rehearse(ctx, l)
			if verdicts[i].outcome == outcomeNone && d.pause(rehearseAgain) {
				verdicts[i] = d.replay.rehearse(ctx, l)
			}
		})
	}
	wg.Wait()
	return verdicts, nil
}
