package kafkasource

import (
	"context"
	"sync"
)

// partition identifies a partition.
type partition struct {
	topic string
	id    int32
}

// offsets tracks the records in flight of the assigned partitions, and so the offset to commit for each partition: the first one
// that is not done (OffsetManager). It forgets done records at once, so that memory does not grow while one record fails for hours
// and others overtake it.
type offsets struct {
	mu    sync.Mutex
	parts map[partition]*progress
}

// progress is one assignment of a partition.
type progress struct {
	ctx       context.Context //nolint:containedctx // ends with the assignment, or with the source
	end       context.CancelFunc
	pending   map[int64]struct{} // received and not done
	next      int64              // the offset after the newest record received; -1: none yet
	committed int64
}

func newOffsets() *offsets { return &offsets{parts: map[partition]*progress{}} }

// assign begins an assignment of a partition. Its deliveries end with the assignment, or with ctx.
func (o *offsets) assign(ctx context.Context, p partition) {
	o.mu.Lock()
	defer o.mu.Unlock()
	g := &progress{next: -1, committed: -1, pending: map[int64]struct{}{}}
	g.ctx, g.end = context.WithCancel(ctx)
	o.parts[p] = g
}

// revoke ends the assignment of a partition, because another consumer now delivers its records. Later results are ignored, and waits
// between retries are cut short.
func (o *offsets) revoke(p partition) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if g := o.parts[p]; g != nil {
		g.end()
		delete(o.parts, p)
	}
}

// received adds a record, and returns the progress to pass to done; nil if the partition is not assigned (any more).
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

// done marks a record as done.
func (o *offsets) done(g *progress, offset int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(g.pending, offset)
}

// commitable returns the offset to commit of each partition whose offset has changed since the last call of committed. It is the
// lowest pending offset, so offsets that the log skips (transaction markers, compaction) do not block it.
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

// committed records an offset that the broker has stored.
func (o *offsets) committed(p partition, offset int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if g := o.parts[p]; g != nil {
		g.committed = offset
	}
}
