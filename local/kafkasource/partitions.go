package kafkasource

import (
	"fmt"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
)

func (s *Source) pause(parts ...kafka.TopicPartition) {
	if err := s.consumer.Pause(parts); err != nil {
		s.log.Warn("could not pause partitions", "err", err)
		return
	}
	for _, tp := range parts {
		s.paused[partition{*tp.Topic, tp.Partition}] = true
	}
}

// resume resumes paused partitions whose lane has room again.
func (s *Source) resume() {
	var parts []kafka.TopicPartition
	for p := range s.paused {
		if s.lane(p).roomy() {
			parts = append(parts, kafka.TopicPartition{Topic: &p.topic, Partition: p.id})
		}
	}
	if len(parts) == 0 {
		return
	}
	if err := s.consumer.Resume(parts); err != nil {
		s.log.Warn("could not resume partitions", "err", err)
		return
	}
	for _, tp := range parts {
		delete(s.paused, partition{*tp.Topic, tp.Partition})
	}
}

func (s *Source) rebalance(c *kafka.Consumer, e kafka.Event) error {
	switch e := e.(type) {
	case kafka.AssignedPartitions:
		for _, tp := range e.Partitions {
			s.offsets.assign(s.ctx, partition{*tp.Topic, tp.Partition})
		}
		s.startAtEnds(e.Partitions)
		if err := c.Assign(e.Partitions); err != nil {
			return fmt.Errorf("assign: %w", err)
		}
		s.initOffsets()
	case kafka.RevokedPartitions:
		s.commit()
		s.uncommitted = nil
		for _, tp := range e.Partitions {
			p := partition{*tp.Topic, tp.Partition}
			s.offsets.revoke(p)
			s.lane(p).drop(p)
			if s.spec.Ordered {
				delete(s.lanes, p)
			}
		}
		if len(s.paused) > 0 { // the next assignment, perhaps to us, must not begin paused
			if err := c.Resume(e.Partitions); err != nil {
				s.log.Warn("could not resume partitions", "err", err)
			}
			clear(s.paused)
		}
		if err := c.Unassign(); err != nil {
			return fmt.Errorf("unassign: %w", err)
		}
	}
	return nil
}

// commit commits the first pending offset of each partition. A commit that fails is retried after the next interval; until then, a
// crash causes redelivery, never loss.
func (s *Source) commit() {
	var all []kafka.TopicPartition
	for p, offset := range s.offsets.commitable() {
		all = append(all, kafka.TopicPartition{Topic: &p.topic, Partition: p.id, Offset: kafka.Offset(offset)})
	}
	if len(all) == 0 {
		return
	}
	stored, err := s.consumer.CommitOffsets(all)
	if err != nil {
		s.log.Warn("could not commit offsets", "err", err)
		return
	}
	for _, tp := range stored {
		if tp.Error != nil {
			s.log.Warn("could not commit an offset", "err", tp.Error, "topic", *tp.Topic, "partition", tp.Partition)
			continue
		}
		s.offsets.committed(partition{*tp.Topic, tp.Partition}, int64(tp.Offset))
	}
}
