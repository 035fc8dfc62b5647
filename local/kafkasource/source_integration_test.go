//go:build integration

package kafkasource

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"marketdata/shared/kafkaclient"
	"marketdata/shared/testenv"
)

type world struct {
	brokers      kafkaclient.Config
	topic, group string
	producer     *kafkaclient.Producer
	pending      *errgroup.Group
}

func setup(t *testing.T, partitions int) world {
	t.Helper()
	w := world{brokers: testenv.Kafka(t), group: uuid.NewString(), pending: &errgroup.Group{}}
	w.pending.SetLimit(1000)
	t.Cleanup(func() { testenv.DeleteGroups(t, w.brokers, w.group) })
	w.topic = testenv.Topic(t, w.brokers, partitions)
	w.producer = kafkaclient.NewProducer(w.brokers, slog.New(slog.DiscardHandler))
	t.Cleanup(func() { w.producer.Close(time.Second) })
	return w
}

func (w world) produce(t *testing.T, values ...string) {
	t.Helper()
	for _, v := range values {
		require.NoError(t, w.producer.Produce(context.Background(), kafkaclient.Record{Topic: w.topic, Value: []byte(v)}))
	}
}

// fill produces n records without keys, concurrently.
func (w world) fill(t *testing.T, n int) {
	t.Helper()
	for i := range n {
		w.enqueue(t, kafkaclient.Record{Topic: w.topic, Value: []byte(strconv.Itoa(i))})
	}
	w.flush(t)
}

func (w world) enqueue(t *testing.T, r kafkaclient.Record) {
	t.Helper()
	w.pending.Go(func() error { return w.producer.Produce(context.Background(), r) })
}

func (w world) flush(t *testing.T) {
	t.Helper()
	require.NoError(t, w.pending.Wait())
}

func (w world) start(t *testing.T, sink string, change func(*Spec)) *Source {
	t.Helper()
	s := Spec{
		Name: "src", Namespace: "ns", Kafka: w.brokers, Topics: []string{w.topic}, ConsumerGroup: w.group, InitialOffset: "earliest",
		Sink: sink, Delivery: Delivery{Timeout: 5 * time.Second},
	}
	if change != nil {
		change(&s)
	}
	source, err := Start(s, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	return source
}

// receiver passes each delivery to the test, and answers with the status that the test sends.
type receiver struct {
	requests chan string
	answers  chan int
}

func newReceiver(t *testing.T) (*receiver, string) {
	t.Helper()
	r := &receiver{requests: make(chan string, 1000), answers: make(chan int, 1000)}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.requests <- req.Header.Get("ce-knativekafkaoffset")
		w.WriteHeader(<-r.answers)
	}))
	t.Cleanup(server.Close)
	return r, server.URL
}

func (r *receiver) next(t *testing.T) string {
	t.Helper()
	select {
	case offset := <-r.requests:
		return offset
	case <-time.After(20 * time.Second):
		t.Fatal("no delivery")
		return ""
	}
}

func TestOnlyPendingRecordsAreRedelivered(t *testing.T) {
	t.Parallel()
	w := setup(t, 1)
	w.produce(t, "a", "b", "c")
	r, url := newReceiver(t)
	first := w.start(t, url, func(s *Spec) {
		s.Delivery = Delivery{Retry: 100, BackoffDelay: time.Hour, Timeout: 5 * time.Second}
		s.Ordered = true
	})
	require.NoError(t, first.Ready(t.Context()))
	require.Equal(t, "0", r.next(t))
	r.answers <- 204
	require.Equal(t, "1", r.next(t))
	r.answers <- 503 // waits an hour for its retry; in ordered mode the partition waits, too
	require.NoError(t, first.Close())
	require.Empty(t, r.requests, "no record overtakes one that fails")

	second := w.start(t, url, nil)
	got := map[string]bool{r.next(t): true, r.next(t): true}
	require.Equal(t, map[string]bool{"1": true, "2": true}, got)
	r.answers <- 204
	r.answers <- 204
	require.NoError(t, second.Close())

	w.produce(t, "d")
	third := w.start(t, url, nil)
	require.Equal(t, "3", r.next(t), "offsets of done records are committed")
	r.answers <- 204
	require.NoError(t, third.Close())
}

// crash ends a source as a kill would: what it has done since its last commit is not committed.
func crash(t *testing.T, s *Source) {
	t.Helper()
	s.cancel()
	<-s.stopped
	s.workers.Wait()
	s.offsets = newOffsets()
	require.NoError(t, s.Close())
}

// Offsets are committed every 5 s, and what was done since is delivered again after a crash: the same event, byte for byte.
func TestRedeliveryAfterACrash(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		interval time.Duration
		again    []string
	}{
		"before the commit": {time.Hour, []string{"0", "1"}},
		"after the commit":  {50 * time.Millisecond, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t, 1)
			r, url := newReceiver(t)
			for range 10 {
				r.answers <- http.StatusNoContent
			}
			change := func(s *Spec) { s.Ordered, s.CommitInterval = true, c.interval }
			first := w.start(t, url, change)
			w.produce(t, "a", "b")
			require.Equal(t, []string{"0", "1"}, []string{r.next(t), r.next(t)})
			if c.again == nil {
				w.committed(t, first, 2)
			}
			crash(t, first)
			w.produce(t, "c")
			second := w.start(t, url, change)
			for _, offset := range append(c.again, "2") {
				require.Equal(t, offset, r.next(t))
			}
			require.NoError(t, second.Close())
			require.Empty(t, r.requests)
		})
	}
}

// committed waits until the group has committed an offset of partition 0.
func (w world) committed(t *testing.T, s *Source, offset kafka.Offset) {
	t.Helper()
	require.Eventually(t, func() bool {
		got, err := s.consumer.Committed([]kafka.TopicPartition{{Topic: &w.topic}}, brokerTimeoutMs)
		return err == nil && got[0].Offset == offset
	}, 20*time.Second, 10*time.Millisecond)
}

// With initialOffset latest, whatever is produced once the source is ready is delivered, even if it restarts before its first commit.
func TestLatestMissesNothing(t *testing.T) {
	t.Parallel()
	w := setup(t, 3)
	w.fill(t, 30)
	latest := func(s *Spec) { s.InitialOffset = "latest" }
	got := make(chan string, 100)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- string(body)
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(server.Close)
	first := w.start(t, server.URL, latest)
	require.NoError(t, first.Ready(t.Context()))
	crash(t, first)
	w.produce(t, "down")
	s := w.start(t, server.URL, latest)
	w.produce(t, "starting")
	require.NoError(t, s.Ready(t.Context()))
	w.produce(t, "ready", "ready", "ready")
	want := map[string]int{"down": 1, "starting": 1, "ready": 3}
	for range 5 {
		select {
		case value := <-got:
			want[value]--
		case <-time.After(20 * time.Second):
			t.Fatal("no delivery")
		}
	}
	require.Equal(t, map[string]int{"down": 0, "starting": 0, "ready": 0}, want)
	require.NoError(t, s.Close())
	require.Empty(t, got, "nothing older")
}

// As on a cluster, all plain records that one poll returns together with such a record are lost, and no CloudEvent.
func TestNullHeaderLosesThePlainRecordsOfItsPoll(t *testing.T) {
	t.Parallel()
	w := setup(t, 1)
	event := []kafkaclient.Header{
		{Name: "ce_specversion", Value: []byte("1.0")},
		{Name: "ce_id", Value: []byte("1")},
		{Name: "ce_source", Value: []byte("/s")},
		{Name: "ce_type", Value: []byte("t")},
		{Name: "x"},
	}
	w.produce(t, "plain")
	require.NoError(t, w.producer.Produce(t.Context(), kafkaclient.Record{Topic: w.topic, Headers: []kafkaclient.Header{{Name: "x"}}}))
	require.NoError(t, w.producer.Produce(t.Context(), kafkaclient.Record{Topic: w.topic, Headers: event}))
	r, url := newReceiver(t)
	var log bytes.Buffer
	spec := Spec{Kafka: w.brokers, Topics: []string{w.topic}, ConsumerGroup: w.group, Sink: url, Ordered: true, Delivery: Delivery{Timeout: 5 * time.Second}}
	s, err := Start(spec, slog.New(slog.NewJSONHandler(&log, nil)))
	require.NoError(t, err)
	r.answers <- http.StatusNoContent
	require.Equal(t, "2", r.next(t))
	w.produce(t, "later")
	r.answers <- http.StatusNoContent
	require.Equal(t, "3", r.next(t))
	require.NoError(t, s.Close())
	require.Contains(t, log.String(), `"level":"ERROR"`)
	require.Contains(t, log.String(), `"lost_records":2,"header":"x"`)
	again := w.start(t, url, nil)
	w.produce(t, "new")
	r.answers <- http.StatusNoContent
	require.Equal(t, "4", r.next(t), "the lost records are committed")
	require.NoError(t, again.Close())
}

func TestRecordGoesToTheDeadLetterSinkAfterItsRetries(t *testing.T) {
	t.Parallel()
	w := setup(t, 1)
	w.produce(t, "a", "b")
	r, url := newReceiver(t)
	dead, deadURL := newReceiver(t)
	s := w.start(t, url, func(s *Spec) {
		s.Ordered = true
		s.Delivery = Delivery{Retry: 2, BackoffDelay: time.Millisecond, Timeout: 5 * time.Second, DeadLetterSink: deadURL}
	})
	for range 3 {
		require.Equal(t, "0", r.next(t))
		r.answers <- 503
	}
	require.Equal(t, "0", dead.next(t))
	dead.answers <- 202
	require.Equal(t, "1", r.next(t))
	r.answers <- 204
	require.NoError(t, s.Close())
}

// A backlog is delivered at the speed of the sink. Pausing whenever all slots are taken would discard librdkafka's prefetched records,
// and take minutes.
func TestBacklogIsFetchedOnce(t *testing.T) {
	t.Parallel()
	w := setup(t, 3)
	const n = 6000
	w.fill(t, n)
	var got atomic.Int64
	all := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNoContent)
		if got.Add(1) == n {
			close(all)
		}
	}))
	t.Cleanup(server.Close)
	s := w.start(t, server.URL, nil)
	select {
	case <-all:
	case <-time.After(15 * time.Second):
		t.Errorf("%d of %d in 15 s", got.Load(), n)
	}
	require.NoError(t, s.Close())
}

// A sink that hangs does not delay Close; the record is redelivered after the next start.
func TestCloseDoesNotWaitForASinkThatHangs(t *testing.T) {
	t.Parallel()
	w := setup(t, 1)
	w.produce(t, "a")
	r, url := newReceiver(t)
	first := w.start(t, url, func(s *Spec) { s.Delivery.Timeout = time.Hour })
	require.Equal(t, "0", r.next(t))
	began := time.Now()
	require.NoError(t, first.Close())
	require.Less(t, time.Since(began), closeGrace+3*time.Second)
	r.answers <- http.StatusNoContent
	second := w.start(t, url, nil)
	require.Equal(t, "0", r.next(t))
	r.answers <- http.StatusNoContent
	require.NoError(t, second.Close())
}
