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

// within asks the broker whether the partition reaches from before the offset to beyond it, and notes where it begins now.
func (r *Reader) within(ctx context.Context, p partition, offset int64) (bool, error) {
	type answer struct {
		low, high int64
		err       error
	}
	r.mu.Lock()
	c, err := r.open()
	if err != nil {
		r.mu.Unlock()
		return false, err
	}
	answers := make(chan answer, 1)
	r.busy.Go(func() {
		low, high, err := c.QueryWatermarkOffsets(p.topic, p.number, int(metaWait.Milliseconds()))
		answers <- answer{low, high, err}
	})
	r.mu.Unlock()
	select {
	case a := <-answers:
		if a.err != nil {
			return false, unavailable(a.err)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if s := r.streams[p]; s != nil {
			s.low, s.lowAt = a.low, time.Now()
		}
		return offset >= a.low && offset < a.high, nil
	case <-ctx.Done():
		return false, unavailable(context.Cause(ctx))
	}
}

func millisecondsLeft(ctx context.Context) int {
	wait := time.Second
	if deadline, ok := ctx.Deadline(); ok {
		wait = max(time.Until(deadline), time.Millisecond)
	}
	return int(wait.Milliseconds())
}
