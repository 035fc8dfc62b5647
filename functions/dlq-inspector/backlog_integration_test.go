//go:build integration

package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/shared/kafkaclient"
)

// A flood of poison: each record becomes one exact letter, although 100 are in flight at once, each is delivered twice, and one in ten
// originals is gone (its letter is not exact). One at a time, this took an hour.
func TestABacklogOfPoison(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const n = 4000
	original := func(i int) []byte { return fmt.Appendf(nil, `{"symbol":"S%d","price":-%d}`, i%50, i) }
	produceMany(t, b.producer, n, func(i int) kafkaclient.Record {
		return kafkaclient.Record{Topic: b.topic, Key: fmt.Append(nil, "S", i%50), Value: original(i), Headers: []kafkaclient.Header{{Name: "n", Value: []byte(strconv.Itoa(i))}}}
	})
	// Records of one topic are in no order when they are produced at once: where each original stands is read back.
	places := make([]int, n)
	r := b.reader(t)
	for offset := range n {
		record, err := r.Read(t.Context(), kafkaclient.Place{Topic: b.topic, Offset: int64(offset)})
		require.NoError(t, err)
		i, err := strconv.Atoi(string(record.Headers[0].Value))
		require.NoError(t, err)
		places[i] = offset
	}
	produceMany(t, b.producer, n, func(i int) kafkaclient.Record {
		offset := places[i]
		if i%10 == 0 {
			offset += n // there is nothing
		}
		return kafkaclient.Record{Topic: b.dlq, Value: original(i), Headers: []kafkaclient.Header{
			{Name: "ce_specversion", Value: []byte("1.0")},
			{Name: "ce_id", Value: fmt.Append(nil, "e", i)},
			{Name: "ce_source", Value: []byte("/providers/x")},
			{Name: "ce_type", Value: []byte("marketdata.price.observed.v1")},
			{Name: "dlq-topic", Value: []byte(b.topic)},
			{Name: "dlq-partition", Value: []byte("0")},
			{Name: "dlq-offset", Value: []byte(strconv.Itoa(offset))},
			{Name: "dlq-code", Value: []byte("invalid_price")},
			{Name: "dlq-reason", Value: fmt.Append(nil, "price -", i, " must be greater than 0")},
		}}
	})
	began := time.Now()
	var next, failed atomic.Int64
	var senders sync.WaitGroup
	for range 100 {
		senders.Go(func() {
			for {
				i := int(next.Add(1) - 1)
				if i >= 2*n { // each comes twice, close together
					return
				}
				offset := i / 2
				record, err := r.Read(context.Background(), kafkaclient.Place{Topic: b.dlq, Offset: int64(offset)})
				if err != nil || b.post(offset, record.Value) != http.StatusNoContent {
					failed.Add(1)
				}
			}
		})
	}
	senders.Wait()
	t.Log(int(2*n/time.Since(began).Seconds()), "deliveries a second")
	require.Zero(t, failed.Load())
	var letters, exact, failures, fingerprints, symbols int
	require.NoError(t, b.pool.QueryRow(t.Context(), `
		select count(*), count(*) filter (where exact), sum(failure_count), count(distinct fingerprint), count(distinct symbol) from dead_letters`).
		Scan(&letters, &exact, &failures, &fingerprints, &symbols))
	require.Equal(t, []int{n, n - n/10, n, 1, 50}, []int{letters, exact, failures, fingerprints, symbols})
	require.NoError(t, b.pool.QueryRow(t.Context(), "select count(*) from dead_letter_failures").Scan(&failures))
	require.Equal(t, n, failures)
}

func produceMany(t *testing.T, p *kafkaclient.Producer, n int, record func(i int) kafkaclient.Record) {
	t.Helper()
	var next, failed atomic.Int64
	var producers sync.WaitGroup
	for range 100 {
		producers.Go(func() {
			for i := int(next.Add(1) - 1); i < n; i = int(next.Add(1) - 1) {
				if p.Produce(context.Background(), record(i)) != nil {
					failed.Add(1)
				}
			}
		})
	}
	producers.Wait()
	require.Zero(t, failed.Load())
}

func (b bundle) reader(t *testing.T) *kafkaclient.Reader {
	t.Helper()
	r := kafkaclient.NewReader(b.brokers, slog.New(slog.DiscardHandler))
	t.Cleanup(r.Close)
	return r
}

// post delivers a record of the dead letter topic as its KafkaSource does.
func (b bundle) post(offset int, value []byte, attributes ...string) int {
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(string(value)))
	for name, v := range map[string]string{
		"Ce-Specversion": "1.0", "Ce-Id": fmt.Sprintf("partition:0/offset:%d", offset), "Ce-Source": "/s", "Ce-Type": "dev.knative.kafka.event",
		"Ce-Kafkatopic": b.dlq, "Ce-Knativekafkapartition": "0", "Ce-Knativekafkaoffset": strconv.Itoa(offset),
	} {
		r.Header.Set(name, v)
	}
	for i := 0; i < len(attributes); i += 2 {
		r.Header.Set(attributes[i], attributes[i+1])
	}
	w := httptest.NewRecorder()
	b.http.ServeHTTP(w, r)
	return w.Code
}
