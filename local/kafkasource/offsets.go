package kafkasource

import (
	"context"
	"sync"
)

// partition names one partition.
type partition struct {
	topic string
	id    int32
}

// offsets knows which records of the assigned partitions are under way, and so up to where each partition may be
// committed: the first offset that is not done (OffsetManager). What is done is forgotten at once, so that a record that
// fails for hours costs no memory however many overtake it.
type offsets struct {
	mu    sync.Mutex
	parts map[partition]*progress
}

// progress is one assignment of a partition.
type progress struct {
	ctx       context.Context //nolint:containedctx // ends with the assignment, or with the source
	end       context.CancelFunc
	pending   map[int64]struct{} // received and not done
	next      int64              // behind the newest record received; -1: none yet
	committed int64
}

func newOffsets() *offsets { return &offsets{parts: map[partition]*progress{}} }

// assign starts a partition afresh; its deliveries live as long as the assignment, and no longer than ctx.
func (o *offsets) assign(ctx context.Context, p partition) {
	o.mu.Lock()
	defer o.mu.Unlock()
	g := &progress{next: -1, committed: -1, pending: map[int64]struct{}{}}
	g.ctx, g.end = context.WithCancel(ctx)
	o.parts[p] = g
}

// revoke forgets a partition: results that come later count for nothing, and waits between retries are cut short, since
// another consumer now delivers those records.
func (o *offsets) revoke(p partition) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if g := o.parts[p]; g != nil {
		g.end()
		delete(o.parts, p)
	}
}

// received notes a record and gives the progress to report it done on; nil if the partition is not ours (any more).
func (o *offsets) received(p partition, offset int64) *progress {
	o.mu.Lock()
	defer o.mu.Unlock()
	g := o.parts[p]
	if g == nil {
		return nil
	}
	g.pending[offset] = struct{}{}
	g.next = offset + 1
	return g
}

// done notes that a record needs no more delivery.
func (o *offsets) done(g *progress, offset int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(g.pending, offset)
}

// commitable gives each partition's offset to commit, where it moved since it was last given to committed. Offsets
// skipped by the log (transaction markers, compaction) do not hold it up: it goes to the lowest pending record.
func (o *offsets) commitable() map[partition]int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	out := map[partition]int64{}
	for p, g := range o.parts {
		first := g.next
		for offset := range g.pending {
			first = min(first, offset)
		}
		if first != g.committed && first > 0 {
			out[p] = first
		}
	}
	return out
}

// committed notes what the broker has stored.
func (o *offsets) committed(p partition, offset int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if g := o.parts[p]; g != nil {
		g.committed = offset
	}
}
