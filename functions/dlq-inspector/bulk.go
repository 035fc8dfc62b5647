package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"marketdata/shared/fault"
)

const (
	bulkBatch      = 100              // letters looked up at a time
	bulkRest       = 5 * time.Second  // after trouble, before the replay goes on
	requestAdvance = time.Second      // what the request that asks for a replay does of it itself
	tickAdvance    = 15 * time.Second // what a tick does
)

// What came of a letter of a replay. A dry run has the same words for what would.
const (
	outcomeResolved = "resolved"
	outcomeRefused  = "refused" // open again with the new failure
	outcomeSent     = "sent"
	outcomeSkipped  = "skipped" // not open any more, replayed too often, or nothing to send
)

type bulkStore interface {
	claimBulk(ctx context.Context) (b bulk, ok bool, err error)
	nextLetters(ctx context.Context, b bulk, limit int) ([]uuid.UUID, error)
	progress(ctx context.Context, b bulk, letter uuid.UUID, outcome string) (ours bool, err error)
	leave(ctx context.Context, b bulk, done bool, after time.Duration) error
	letter(ctx context.Context, id uuid.UUID) (stored, []failure, []auditEntry, error)
}

// bulkRunner advances replays of many letters, a little with each request and tick: what is running lives in the database
// alone, so that an inspector that is killed or scaled down goes on with the next tick. Several take different replays.
type bulkRunner struct {
	store    bulkStore
	replay   *replayer
	log      *slog.Logger
	metrics  metrics
	stopping <-chan struct{} // nil: never
}

// advance works on what is running for about the given time.
func (r *bulkRunner) advance(ctx context.Context, during time.Duration) error {
	ctx = context.WithoutCancel(ctx) // a letter that is under way is finished: its outcome is wanted
	end := time.NewTimer(during)
	defer end.Stop()
	for {
		b, ok, err := r.store.claimBulk(ctx)
		if err != nil || !ok {
			return err
		}
		if over, err := r.drive(ctx, b, end.C); over || err != nil {
			return err
		}
	}
}

// drive works on one replay until no letter is left, time is over, it is cancelled, or there is trouble: then the cause lies
// with all letters, and it rests.
func (r *bulkRunner) drive(ctx context.Context, b bulk, end <-chan time.Time) (over bool, err error) {
	pace := time.NewTicker(time.Second / time.Duration(b.Rate))
	defer pace.Stop()
	for {
		ids, err := r.store.nextLetters(ctx, b, bulkBatch)
		if err != nil {
			return false, err
		}
		if len(ids) == 0 {
			return false, r.store.leave(ctx, b, true, 0)
		}
		for _, id := range ids {
			select {
			case <-pace.C:
			case <-end:
				return true, r.store.leave(ctx, b, false, 0)
			case <-r.stopping:
				return true, r.store.leave(ctx, b, false, 0)
			}
			outcome, err := r.one(ctx, b, id)
			if err != nil {
				r.log.WarnContext(ctx, "replay rests", "replay_id", b.ID, "letter_id", id, "err", err)
				return false, r.store.leave(ctx, b, false, bulkRest)
			}
			r.metrics.replays(outcome).Inc()
			if ours, err := r.store.progress(ctx, b, id, outcome); err != nil || !ours {
				return false, err
			}
			b.Cursor = id
		}
	}
}

// one replays one letter, or rehearses it. An error is trouble that other letters would meet, too.
func (r *bulkRunner) one(ctx context.Context, b bulk, id uuid.UUID) (outcome string, err error) {
	var status string
	if b.DryRun {
		status, err = r.rehearse(ctx, b, id)
	} else {
		status, err = r.replay.run(ctx, id, order{who: b.Who, reason: b.Reason, target: b.Target})
	}
	switch kind := fault.KindOf(err); {
	case err == nil && status == "open":
		return outcomeRefused, nil
	case err == nil:
		return status, nil
	case kind == fault.Conflict || kind == fault.NotFound || kind == fault.Invalid:
		return outcomeSkipped, nil // the letter's own: somebody settled it, or it was replayed too often
	}
	return "", err
}

func (r *bulkRunner) rehearse(ctx context.Context, b bulk, id uuid.UUID) (status string, err error) {
	l, _, _, err := r.store.letter(ctx, id)
	switch {
	case err != nil:
		return "", err
	case l.Status != "open" || l.ReplayCount >= r.replay.maxReplays || b.Target == toTopic && !r.replay.sendable(l):
		return outcomeSkipped, nil
	case b.Target == toTopic:
		return outcomeSent, nil
	}
	return r.replay.rehearse(ctx, l)
}
