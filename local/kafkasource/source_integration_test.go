//go:build integration

package kafkasource

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"marketdata/shared/kafkaclient"
	"marketdata/shared/testenv"
)

type world struct {
	servers, topic, group string
	producer              *kafkaclient.Producer
}

func setup(t *testing.T, partitions int) world {
	t.Helper()
	w := world{servers: testenv.Kafka(t), group: uuid.NewString()}
	w.topic = testenv.Topic(t, w.servers, partitions)
	w.producer = kafkaclient.NewProducer(w.servers)
	t.Cleanup(func() { w.producer.Close(time.Second) })
	return w
}

func (w world) produce(t *testing.T, values ...string) {
	t.Helper()
	for _, v := range values {
		require.NoError(t, w.producer.Produce(context.Background(), kafkaclient.Record{Topic: w.topic, Value: []byte(v)}))
	}
}

func (w world) start(t *testing.T, sink string, change func(*Spec)) *Source {
	t.Helper()
	s := Spec{
		Name: "src", Namespace: "ns", BootstrapServers: w.servers, Topics: []string{w.topic}, ConsumerGroup: w.group, InitialOffset: "earliest",
		Sink: sink, Delivery: Delivery{Timeout: 5 * time.Second},
	}
	if change != nil {
		change(&s)
	}
	source, err := Start(s, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	return source
}

// receiver hands each delivery to the test, and answers what the test says.
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

func TestWhatIsDoneIsNotDeliveredAgainAndWhatIsNotIs(t *testing.T) {
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
	r.answers <- 503 // waits an hour for its next try, and in ordered mode its partition with it
	require.NoError(t, first.Close())
	require.Empty(t, r.requests, "nothing overtakes a record that fails")

	second := w.start(t, url, nil)
	got := map[string]bool{r.next(t): true, r.next(t): true}
	require.Equal(t, map[string]bool{"1": true, "2": true}, got)
	r.answers <- 204
	r.answers <- 204
	require.NoError(t, second.Close())

	w.produce(t, "d")
	third := w.start(t, url, nil)
	require.Equal(t, "3", r.next(t), "what was done is committed")
	r.answers <- 204
	require.NoError(t, third.Close())
}

func TestUnorderedDeliversPastARecordThatFails(t *testing.T) {
	t.Parallel()
	w := setup(t, 1)
	w.produce(t, "a", "b", "c")
	r, url := newReceiver(t)
	s := w.start(t, url, func(s *Spec) { s.Delivery = Delivery{Retry: 100, BackoffDelay: time.Hour, Timeout: 5 * time.Second} })
	got := map[string]bool{}
	for range 3 {
		got[r.next(t)] = true
	}
	require.Len(t, got, 3, "all in flight at once")
	for _, status := range []int{503, 204, 204} {
		r.answers <- status
	}
	require.NoError(t, s.Close())
}

func TestExhaustedRetriesGoToTheDeadLetterSinkAndOn(t *testing.T) {
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

func TestManyRecordsOnManyPartitionsWithARebalance(t *testing.T) {
	t.Parallel()
	w := setup(t, 4)
	const n = 400
	values := make([]string, n)
	for i := range values {
		values[i] = fmt.Sprint(i)
	}
	got := make(chan string, 10*n)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got <- r.Header.Get("ce-id")
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(server.Close)
	first := w.start(t, server.URL, nil)
	require.NoError(t, first.Ready(t.Context()))
	w.produce(t, values[:n/2]...)
	second := w.start(t, server.URL, nil)
	w.produce(t, values[n/2:]...)
	seen := map[string]bool{}
	for len(seen) < n {
		select {
		case id := <-got:
			seen[id] = true
		case <-time.After(30 * time.Second):
			t.Fatalf("%d of %d", len(seen), n)
		}
	}
	require.NoError(t, first.Close())
	require.NoError(t, second.Close())
}
