//go:build integration

package kafkasource

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/shared/kafkaclient"
)

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

// After its patience, the source pauses, continues to poll, and resumes with the next record.
func TestFullSourcePausesAndResumes(t *testing.T) {
	t.Parallel()
	w := setup(t, 2)
	const n = 2*(maxInFlight+maxWaiting) + 50
	w.fill(t, n)
	r, url := newReceiver(t)
	s := w.start(t, url, nil)
	for range maxInFlight {
		r.next(t)
	}
	// A pause cannot be observed from outside; after twice the patience the source has paused.
	select {
	case <-r.requests:
		t.Fatal("more requests in flight than allowed")
	case <-time.After(2 * patience):
	}
	for range n {
		r.answers <- http.StatusNoContent
	}
	for range n - maxInFlight {
		r.next(t)
	}
	require.NoError(t, s.Close())
	require.Empty(t, r.requests, "each record is delivered once")
}

// In ordered mode a record that fails blocks its own partition and no other, however many records wait behind it, and however long.
func TestOrderedPartitionsDoNotBlockEachOther(t *testing.T) {
	t.Parallel()
	w := setup(t, 2)
	const n = 5 * maxWaiting
	fill := func() {
		for _, key := range []string{"stuck", "flows"} {
			for range n {
				w.enqueue(t, kafkaclient.Record{Topic: w.topic, Key: []byte(key), Value: []byte(key)})
			}
		}
		w.flush(t)
	}
	fill()
	var stuck, free atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if body, _ := io.ReadAll(r.Body); string(body) == "stuck" {
			stuck.Add(1)
			rw.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		rw.WriteHeader(http.StatusNoContent)
		free.Add(1)
	}))
	t.Cleanup(server.Close)
	s := w.start(t, server.URL, func(s *Spec) {
		s.Ordered = true
		s.Delivery = Delivery{Retry: 100, BackoffDelay: time.Hour, Timeout: 5 * time.Second}
	})
	for round := range int64(2) { // in the second one, the partition that fails is paused from the beginning
		require.Eventually(t, func() bool { return free.Load() == (round+1)*n }, 30*time.Second, 10*time.Millisecond, "round %d", round)
		if round == 0 {
			fill()
		}
	}
	require.NoError(t, s.Close())
	require.EqualValues(t, 1, stuck.Load())
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
