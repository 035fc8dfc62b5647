package kafkasource

import "sync"

// partition names one partition.
type partition struct {
	topic string
	id    int32
}

// offsets knows which records of the assigned partitions are done, and so up to where each may be committed: the first
// offset that is not done (OffsetManager). Results of a partition that was revoked meanwhile are ignored.
type offsets struct {
	mu    sync.Mutex
	parts map[partition]*progress
}

type progress struct {
	next      int64          // first offset not done
	pending   map[int64]bool // received; true: done
	committed int64
}

func newOffsets() *offsets { return &offsets{parts: map[partition]*progress{}} }

// assign starts a partition afresh.
func (o *offsets) assign(p partition) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.parts[p] = &progress{next: -1, committed: -1, pending: map[int64]bool{}}
}

// revoke forgets a partition.
func (o *offsets) revoke(p partition) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.parts, p)
}

// received notes a record and gives the progress to report it done on; nil if the partition is not ours (any more).
func (o *offsets) received(p partition, offset int64) *progress {
	o.mu.Lock()
	defer o.mu.Unlock()
	g := o.parts[p]
	if g == nil {
		return nil
	}
	if g.next < 0 {
		g.next = offset
	}
	g.pending[offset] = false
	return g
}

// done notes that a record needs no more delivery.
func (o *offsets) done(g *progress, offset int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	g.pending[offset] = true
}

// commitable gives each partition's offset to commit, where it moved since it was last given to committed. Offsets
// skipped by the log (transaction markers, compaction) do not hold it up: it goes to the lowest pending record.
func (o *offsets) commitable() map[partition]int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	out := map[partition]int64{}
	for p, g := range o.parts {
		if g.next < 0 {
			continue
		}
		lowest, highest := int64(-1), g.next-1
		for offset, isDone := range g.pending {
			if !isDone && (lowest < 0 || offset < lowest) {
				lowest = offset
			}
			highest = max(highest, offset)
		}
		if lowest < 0 {
			lowest = highest + 1
		}
		for offset := range g.pending {
			if offset < lowest {
				delete(g.pending, offset)
			}
		}
		g.next = lowest
		if g.next != g.committed && g.next > 0 {
			out[p] = g.next
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
