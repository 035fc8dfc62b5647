package kafkaclient

import (
	"context"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
)

// lookup is what the broker says of a topic's partitions. Until done is closed it is asked; after that it does not change.
type lookup struct {
	done       chan struct{}
	at         time.Time
	partitions map[int32]bool // none: there is no such topic
	err        error          // Unavailable
}

// exists asks for the partition first: the client would wait long for one that might still appear, and a letter that names a
// place which never was must not be taken for trouble that passes. NotFound "record_gone", Unavailable "broker_unavailable".
func (r *Reader) exists(ctx context.Context, p partition) error {
	l, err := r.ask(p.topic, func(l *lookup) bool {
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

// ask gives the lookup of a topic: the last one, the one under way, or a new one where the last is stale.
func (r *Reader) ask(topic string, stale func(*lookup) bool) (*lookup, error) {
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
	r.busy.Go(func() { l.ask(c, topic) })
	return l, nil
}

func (l *lookup) ask(c *kafka.Consumer, topic string) {
	defer close(l.done)
	m, err := c.GetMetadata(&topic, false, int(metaWait.Milliseconds()))
	l.at = time.Now()
	if err != nil {
		l.err = unavailable(err)
		return
	}
	t := m.Topics[topic]
	switch code := t.Error.Code(); code {
	case kafka.ErrNoError:
		for _, p := range t.Partitions {
			l.partitions[p.ID] = true
		}
	case kafka.ErrUnknownTopicOrPart, kafka.ErrUnknownTopic, kafka.ErrTopicException: // the last: no topic can have this name
	default:
		l.err = unavailable(t.Error)
	}
}

// bounds is a question for a partition's first offset and the one after its last. Until done is closed it is asked.
type bounds struct {
	done      chan struct{}
	number    int // of this question about its partition
	low, high int64
	err       error // Unavailable
}

// within reports whether a partition reaches from before an offset to beyond it. The broker is asked only where the last answer does not
// say so, and by all callers together.
func (r *Reader) within(ctx context.Context, p partition, offset int64) (bool, error) {
	first := 0 // the first question that began after this call
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

// bounds gives the last answer if it has the offset, else a question that is under way, or a new one.
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

// doubt forgets the bounds of a partition: a run has not found what they promise.
func (r *Reader) doubt(p partition) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.streams[p]
	select {
	case <-s.bounds.done:
		s.bounds = &bounds{done: s.bounds.done, number: s.bounds.number} // from 0 to 0: it has no offset
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
