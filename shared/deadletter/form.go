package deadletter

import (
	"context"
	"math"
	"slices"
	"strings"

	"marketdata/shared/fault"
	"marketdata/shared/kafkaclient"
	"marketdata/shared/trace"
)

// form limits how much of an event its dead letter holds, in bytes. What fits on the topic is whole. Of anything larger the letter
// has the beginning, and headers that say what is missing (see [Cut]). The whole record is at the letter's [Origin].
type form struct {
	value, key, allHeaders int
}

var (
	whole = form{math.MaxInt, math.MaxInt, math.MaxInt}
	// forms are tried in turn. The second also passes every later hop, down to a KafkaSink ([SinkBytes]). The third is for a topic with
	// a smaller limit.
	forms = []form{whole, {512 << 10, 128 << 10, 256 << 10}, {16 << 10, 4 << 10, 16 << 10}}
)

// SinkBytes is the largest record that a KafkaSink takes: max.request.size of its producer (config-kafka-sink-data-plane).
const SinkBytes = 1 << 20

// FitsSink reports whether a KafkaSink can take the event as the dead letter of a KafkaSource, which adds three extensions with the
// last answer. An event that does not fit is lost if its retries are used up.
func (d Letter) FitsSink() bool {
	const answer = 8 << 10
	return max(int(d.Size)-len(d.Body), 0)+d.Record("").Bytes()+answer <= SinkBytes
}

const (
	maxReason = 2000 // bytes of dlq-reason
	maxTopic  = 249  // bytes of a topic's name: Kafka's limit
	maxName   = 256  // bytes of a header's name; longer ones are left out when headers are cut
)

// essential headers are kept before all others.
var essential = []string{
	"content-type", "traceparent", "x-topic", "x-kafka-partition", "x-kafka-offset", "ce_specversion", "ce_id", "ce_source", "ce_type",
	"ce_time", "ce_subject", "ce_correction", "ce_kafkatopic", "ce_knativekafkapartition", "ce_knativekafkaoffset",
}

// headers returns as many of the headers as the form allows, and how many are cut or left out. Long values are cut before headers are
// left out.
func (f form) headers(all []kafkaclient.Header) (kept []kafkaclient.Header, cut int) {
	if kafkaclient.HeaderBytes(all) <= f.allHeaders {
		return all, 0
	}
	rank := func(h kafkaclient.Header) int {
		if i := slices.Index(essential, h.Name); i >= 0 {
			return i
		}
		return len(essential)
	}
	kept = slices.DeleteFunc(slices.Clone(all), func(h kafkaclient.Header) bool { return len(h.Name) > maxName })
	slices.SortStableFunc(kept, func(a, b kafkaclient.Header) int { return rank(a) - rank(b) })
	for longest := f.allHeaders; longest >= 32 && kafkaclient.HeaderBytes(kept) > f.allHeaders; longest /= 2 {
		for i, h := range kept {
			kept[i].Value = h.Value[:min(len(h.Value), longest)]
		}
	}
	for kafkaclient.HeaderBytes(kept) > f.allHeaders {
		kept = kept[:len(kept)-max(1, len(kept)/10)]
	}
	return kept, cutCount(all, kept)
}

// cutCount counts the headers that are not in kept as they were.
func cutCount(all, kept []kafkaclient.Header) int {
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

// Writer writes dead letters to one topic. Safe for concurrent use if its Producer is.
type Writer struct {
	Producer producer
	Topic    string
}

type producer interface {
	Produce(ctx context.Context, r kafkaclient.Record) error
}

// Write produces d, whole if the topic accepts it, and returns once the broker has acknowledged it. Errors are those of
// [kafkaclient.Producer.Produce].
func (w Writer) Write(ctx context.Context, d Letter) error {
	if header := trace.Header(ctx); header != "" { // with tracing, the letter comes after the function in its trace
		d.Header = d.Header.Clone()
		d.Header.Set("Traceparent", header)
	}
	var err error
	for _, f := range forms {
		r := d.record(w.Topic, f)
		if r.Bytes() > kafkaclient.MaxMessageBytes {
			continue
		}
		if err = w.Producer.Produce(ctx, r); fault.CodeOf(err) != fault.CodeMessageTooLarge {
			return err
		}
	}
	return err
}
