package kafkaclient

import (
	"context"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
)

// lookup is a request for a topic's partitions. It is in flight until done is closed, and does not change after that.
type lookup struct {
	done       chan struct{}
	at         time.Time
	partitions map[int32]bool // empty if the topic does not exist
	err        error          // Unavailable
}

// exists checks that a partition exists before it is read. Without the check, the client would wait long for a partition that might
// still appear, and a dead letter with a wrong origin would look like a transient error. NotFound "record_gone", Unavailable
// "broker_unavailable".
func (r *Reader) exists(ctx context.Context, p partition) error {
	l, err := r.lookup(p.topic, func(l *lookup) bool {
		age := time.Since(l.at)
		return l.err != nil || age > metaAge || !l.partitions[p.number] && age > metaAgain
	})
	if err != nil {
		return err
	}
	select {
	case <-l.done:
		if l.err == nil && !l.partitions[p.number] {
			return gone()
		}
		return l.err
	case <-ctx.Done():
		return unavailable(context.Cause(ctx))
	}
}

// lookup returns the lookup of a topic: the one in flight, the last one, or a new one if the last is stale.
func (r *Reader) lookup(topic string, stale func(*lookup) bool) (*lookup, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, err := r.open()
	if err != nil {
		return nil, err
	}
	if l := r.lookups[topic]; l != nil {
		select {
		case <-l.done:
			if !stale(l) {
				return l, nil
			}
		default:
			return l, nil
		}
	}
	l := &lookup{done: make(chan struct{}), partitions: map[int32]bool{}}
	r.lookups[topic] = l
	r.busy.Go(func() { l.run(c, topic, r.state) })
	return l, nil
}

func (l *lookup) run(c *kafka.Consumer, topic string, state *State) {
	defer close(l.done)
	m, err := c.GetMetadata(&topic, false, int(metaWait.Milliseconds()))
	l.at = time.Now()
	if err != nil {
		state.Failed(err)
		l.err = state.explain(unavailable(err))
		return
	}
	t := m.Topics[topic]
	switch code := t.Error.Code(); code {
	case kafka.ErrNoError:
		state.Worked()
		for _, p := range t.Partitions {
			l.partitions[p.ID] = true
		}
	case kafka.ErrUnknownTopicOrPart, kafka.ErrUnknownTopic, kafka.ErrTopicException: // the last one: an invalid topic name
	default:
		state.Failed(t.Error)
		l.err = unavailable(t.Error)
	}
}

// bounds is a request for a partition's first offset (low) and the one after its last (high). It is in flight until done is closed.
type bounds struct {
	done      chan struct{}
	number    int // of this request, counted per partition
	low, high int64
	err       error // Unavailable
}

// within reports whether an offset is inside the bounds of its partition. It asks the broker only if the last known bounds do not
// contain the offset, and concurrent callers share one request.
func (r *Reader) within(ctx context.Context, p partition, offset int64) (bool, error) {
	first := 0 // number of the first request that began after this call
	for {
		b, err := r.bounds(p, offset, &first)
		if err != nil {
			return false, err
		}
		select {
		case <-b.done:
		case <-ctx.Done():
			return false, unavailable(context.Cause(ctx))
		}
		switch inside := b.err == nil && offset >= b.low && offset < b.high; {
		case inside || b.number >= first:
			return inside, b.err
		}
	}
}

// bounds returns the last bounds if they contain the offset, otherwise the request in flight, or a new one.
func (r *Reader) bounds(p partition, offset int64, first *int) (*bounds, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, err := r.open()
	if err != nil {
		return nil, err
	}
	s := r.stream(p, c)
	last := 0
	if b := s.bounds; b != nil {
		last = b.number
		if *first == 0 {
			*first = last + 1
		}
		select {
		case <-b.done:
			if b.err == nil && offset >= b.low && offset < b.high {
				return b, nil
			}
		default:
			return b, nil
		}
	}
	b := &bounds{done: make(chan struct{}), number: last + 1}
	s.bounds = b
	r.busy.Go(func() {
		defer close(b.done)
		var err error
		if b.low, b.high, err = c.QueryWatermarkOffsets(p.topic, p.number, int(metaWait.Milliseconds())); err != nil {
			b.err = unavailable(err)
		}
	})
	return b, nil
}

// doubt forgets the bounds of a partition, because a run did not find a record inside them.
func (r *Reader) doubt(p partition) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.streams[p]
	select {
	case <-s.bounds.done:
		s.bounds = &bounds{done: s.bounds.done, number: s.bounds.number} // from 0 to 0: contains no offset
	default:
	}
}

func millisecondsLeft(ctx context.Context) int {
	wait := time.Second
	if deadline, ok := ctx.Deadline(); ok {
		wait = max(time.Until(deadline), time.Millisecond)
	}
	return int(wait.Milliseconds())
}
