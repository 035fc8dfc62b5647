package kafkaclient

import (
	"errors"
	"testing"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"github.com/stretchr/testify/require"

	"marketdata/shared/fault"
)

// assignments records where runs begin.
type assignments struct {
	at  []int64
	err error
}

func (a *assignments) IncrementalAssign(places []kafka.TopicPartition) error {
	a.at = append(a.at, int64(places[0].Offset))
	return a.err
}
func (a *assignments) IncrementalUnassign([]kafka.TopicPartition) error { return nil }

func newStream() (*stream, *assignments) {
	a := &assignments{}
	return &stream{partition: partition{"t", 0}, consumer: a, waits: map[int64]*wait{}}, a
}

func at(offset int64, bytes int) Stored {
	return Stored{Record: Record{Topic: "t", Value: make([]byte, bytes)}, Offset: offset}
}

// outcome is "" while w waits, "record" or the error's code.
func outcome(w *wait) string {
	select {
	case <-w.done:
		if w.err != nil {
			return fault.CodeOf(w.err)
		}
		return "record"
	default:
		return ""
	}
}

func TestStreamServesManyReadsWithOneRun(t *testing.T) {
	t.Parallel()
	s, a := newStream()
	now := time.Now()
	w5, w7 := s.want(5, now), s.want(7, now)
	again := s.want(7, now)
	for offset := int64(5); offset < 9; offset++ {
		require.True(t, s.take(at(offset, 10), now))
	}
	require.Equal(t, []string{"record", "record"}, []string{outcome(w5), outcome(w7)})
	require.Same(t, w7, again)
	require.Equal(t, []int64{5}, a.at)
	require.False(t, s.take(at(8, 10), now), "already taken")
}

func TestStreamContinuesWhereItEnded(t *testing.T) {
	t.Parallel()
	s, a := newStream()
	now := time.Now()
	s.want(5, now)
	require.True(t, s.take(at(5, aheadLeast), now))
	require.False(t, s.running, "enough was read ahead")
	late, early := s.want(9, now), s.want(8, now)
	require.Equal(t, []int64{5, 6}, a.at, "not at the lowest requested offset: its neighbours are requested, too")
	require.Equal(t, 2*aheadLeast, s.ahead)
	for offset := int64(6); offset < 10; offset++ {
		s.take(at(offset, 10), now)
	}
	require.Equal(t, "record", outcome(late))
	require.Equal(t, "record", outcome(early))
	s.stop()
	s.want(10+reach+1, now)
	require.Equal(t, []int64{5, 6, 11 + reach}, a.at, "far away")
	require.Equal(t, aheadLeast, s.ahead)
}

func TestStreamReturnsToAnOffsetBehindTheRun(t *testing.T) {
	t.Parallel()
	s, a := newStream()
	now := time.Now()
	s.want(5, now)
	s.take(at(5, 10), now)
	before, soon := s.want(3, now), s.want(7, now)
	s.take(at(6, aheadLeast), now)
	require.Equal(t, []int64{5, 3}, a.at)
	for offset := int64(3); offset < 8; offset++ {
		s.take(at(offset, 10), now)
	}
	require.Equal(t, "record", outcome(before))
	require.Equal(t, "record", outcome(soon))
}

func TestStreamReportsMissingRecords(t *testing.T) {
	t.Parallel()
	now := time.Now()
	s, _ := newStream()
	gap, after := s.want(5, now), s.want(6, now)
	s.take(at(6, 10), now)
	require.Equal(t, "record_gone", outcome(gap), "expired or compacted")
	require.Equal(t, "record", outcome(after))

	s, a := newStream()
	beyond := s.want(5, now)
	s.take(at(0, 10), now) // the client restarts at the first record
	require.Equal(t, "record_gone", outcome(beyond))
	require.Equal(t, []int64{5}, a.at)
	require.False(t, s.running)

	s, a = newStream()
	end := s.want(5, now)
	written := s.want(6, now) // during the run: the broker may have answered before it was written
	s.atEnd(now)
	require.Equal(t, "record_gone", outcome(end))
	require.Empty(t, outcome(written))
	require.Equal(t, []int64{5, 5}, a.at)
	s.atEnd(now)
	require.Equal(t, "record_gone", outcome(written), "a second run finds nothing")
	s.atEnd(now)
}

func TestStreamRestartsARunWithoutProgress(t *testing.T) {
	t.Parallel()
	s, a := newStream()
	now := time.Now()
	s.want(5, now)
	s.want(6, now.Add(time.Second))
	require.Len(t, a.at, 1)
	s.want(7, now.Add(readWait+time.Second))
	require.Len(t, a.at, 2)
	w := s.want(8, now)
	a.err = errors.New("no")
	s.stop()
	s.start(now)
	require.Equal(t, "broker_unavailable", outcome(w))
}

func TestCacheIsBoundedInBytes(t *testing.T) {
	t.Parallel()
	c := cache{limit: 10_000}
	for offset := range int64(100) {
		c.put(at(offset, 400))
		c.put(at(offset, 400))
	}
	require.LessOrEqual(t, c.bytes, c.limit)
	require.Len(t, c.records, len(c.order))
	_, ok := c.get(Place{"t", 0, 99})
	require.True(t, ok)
	_, ok = c.get(Place{"t", 0, 0})
	require.False(t, ok, "the oldest goes first")
	c.put(at(200, 5_000))
	_, ok = c.get(Place{"t", 0, 200})
	require.False(t, ok, "one large record does not evict all others")
}
