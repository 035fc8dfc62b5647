package kafkaclient

import (
	"context"
	"math"
	"slices"
	"strings"

	"marketdata/shared/fault"
)

// form says how much of an event its dead letter holds, in bytes. What the topic can take whole is whole; of anything
// larger the letter has the beginning, and tells with headers of its own what is missing:
//
//	dlq-value-bytes, dlq-value-sha256   length and digest (hex) of the whole value; present only if it is cut
//	dlq-key-bytes, dlq-key-sha256       the same of the key
//	dlq-headers-cut                     how many delivered headers are cut or left out
//
// The whole is where the letter says that it came from: dlq-topic, dlq-partition, dlq-offset.
type form struct {
	value, key, allHeaders int
}

var (
	whole = form{math.MaxInt, math.MaxInt, math.MaxInt}
	// forms are tried in turn. The second passes every later hop as well, down to a KafkaSink's max.request.size of 1 MiB; the
	// third is for a topic of somebody's own with a bound of its own.
	forms = []form{whole, {512 << 10, 128 << 10, 256 << 10}, {16 << 10, 4 << 10, 16 << 10}}
)

const (
	maxReason = 2000 // bytes of dlq-reason
	maxTopic  = 249  // Kafka's own bound: a longer name is no topic
	maxName   = 256  // bytes of a header's name; a longer one is left out when headers are cut
	overhead  = 12   // of a header or a record, in its encoding, at most
)

// essential headers are kept before all others.
var essential = []string{
	"content-type", "traceparent", "x-topic", "x-kafka-partition", "x-kafka-offset", "ce_specversion", "ce_id", "ce_source", "ce_type",
	"ce_time", "ce_subject", "ce_correction", "ce_kafkatopic", "ce_knativekafkapartition", "ce_knativekafkaoffset",
}

func bytesOf(headers []Header) int {
	n := 0
	for _, h := range headers {
		n += len(h.Name) + len(h.Value) + overhead
	}
	return n
}

// headers gives as much of the headers as the form allows, and how many are cut or left out. Long values are cut before
// anything is left out.
func (f form) headers(all []Header) (kept []Header, cut int) {
	if bytesOf(all) <= f.allHeaders {
		return all, 0
	}
	rank := func(h Header) int {
		if i := slices.Index(essential, h.Name); i >= 0 {
			return i
		}
		return len(essential)
	}
	kept = slices.DeleteFunc(slices.Clone(all), func(h Header) bool { return len(h.Name) > maxName })
	slices.SortStableFunc(kept, func(a, b Header) int { return rank(a) - rank(b) })
	for longest := f.allHeaders; longest >= 32 && bytesOf(kept) > f.allHeaders; longest /= 2 {
		for i, h := range kept {
			kept[i].Value = h.Value[:min(len(h.Value), longest)]
		}
	}
	for bytesOf(kept) > f.allHeaders {
		kept = kept[:len(kept)-max(1, len(kept)/10)]
	}
	return kept, cutCount(all, kept)
}

// cutCount counts the headers that are not in kept as they were.
func cutCount(all, kept []Header) int {
	same := map[string]int{}
	for _, h := range all {
		same[h.Name+"\x00"+string(h.Value)]++
	}
	intact := 0
	for _, h := range kept {
		if k := h.Name + "\x00" + string(h.Value); same[k] > 0 {
			same[k]--
			intact++
		}
	}
	return len(all) - intact
}

func cutText(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
}

// Bytes is at least what the record takes in a batch, uncompressed.
func (r Record) Bytes() int { return len(r.Key) + len(r.Value) + bytesOf(r.Headers) + batchOverhead }

const batchOverhead = 128 // of a batch with one record: 61 bytes, and the record's own fields

// DeadLetters writes dead letters to one topic.
type DeadLetters struct {
	Producer recordProducer
	Topic    string
}

type recordProducer interface {
	Produce(ctx context.Context, r Record) error
}

// Write produces d, whole if the topic takes it so, and returns once the broker has acknowledged it. Errors as for
// [Producer.Produce].
func (w DeadLetters) Write(ctx context.Context, d DeadLetter) error {
	var err error
	for _, f := range forms {
		r := d.record(w.Topic, f)
		if r.Bytes() > MaxMessageBytes {
			continue
		}
		if err = w.Producer.Produce(ctx, r); fault.CodeOf(err) != codeTooLarge {
			return err
		}
	}
	return err
}
