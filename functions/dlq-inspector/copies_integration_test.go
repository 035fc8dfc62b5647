//go:build integration

package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/functions/dlq-inspector/internal/letter"
	"marketdata/functions/dlq-inspector/internal/lettertest"
	"marketdata/shared/deadletter"
	"marketdata/shared/kafkaclient"
)

// circulated produces the copy of a dead letter record that the dead letter sink writes while the inspector is down.
func (b bundle) circulated(t *testing.T, of int, value []byte) {
	t.Helper()
	b.produce(t, kafkaclient.Record{Topic: b.dlq, Value: value, Headers: lettertest.Headers(
		"ce_specversion", "1.0", "ce_id", "e1", "ce_source", "/providers/x", "ce_type", "t", "ce_kafkatopic", b.dlq,
		"ce_knativekafkapartition", "0", "ce_knativekafkaoffset", fmt.Sprint(of), "ce_knativeerrorcode", "503")})
}

func TestACirculatedCopyOfAKnownRecordIsNothingNew(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.letterOf(t, lettertest.Poison)
	require.Equal(t, 204, b.post(0, lettertest.Poison))
	b.circulated(t, 0, lettertest.Poison)
	b.circulated(t, 1, lettertest.Poison) // once more
	for _, status := range []string{"sent", "resolved", "discarded", "open"} {
		_, err := b.pool.Exec(t.Context(), "update dead_letters set status = $1", status)
		require.NoError(t, err)
		require.Equal(t, 204, b.post(1, lettertest.Poison))
		require.Equal(t, 204, b.post(2, lettertest.Poison))
		l := b.only(t)
		require.Equal(t, status, l["status"])
		require.InDelta(t, 1, l["failure_count"], 0)
	}
}

// The refusal of a copy that was sent names another place on the topic; it still belongs to the letter, and counts once.
func TestARefusedCopyOpensTheLetterThatWasSent(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.letterOf(t, lettertest.Poison)
	require.Equal(t, 204, b.post(0, lettertest.Poison))
	path := fmt.Sprint("/dlq/messages/", b.only(t)["id"])
	status, l := b.do(t, http.MethodPost, path+"/replay", `{"target":"topic"}`)
	require.Equal(t, http.StatusOK, status, l)
	require.Equal(t, "sent", l["status"])
	refusal := func(offset int) {
		b.produce(t, kafkaclient.Record{Topic: b.dlq, Value: lettertest.Poison, Headers: lettertest.Headers(
			"ce_specversion", "1.0", "ce_id", fmt.Sprint("partition:0/offset:", offset), "ce_source", "/s", "ce_type", "dev.knative.kafka.event",
			"dlq-topic", b.topic, "dlq-partition", "0", "dlq-offset", fmt.Sprint(offset), "dlq-code", "invalid_price", "dlq-reason", "again")})
	}
	refusal(1)
	_, err := b.pool.Exec(t.Context(), "update dead_letters set status = 'replaying', replay_token = gen_random_uuid()")
	require.NoError(t, err)
	require.Equal(t, 503, b.post(1, lettertest.Poison), "the copy came before its replay was settled: it must be redelivered")
	_, err = b.pool.Exec(t.Context(), "update dead_letters set status = 'sent', replay_token = null")
	require.NoError(t, err)
	for range 2 {
		require.Equal(t, 204, b.post(1, lettertest.Poison))
	}
	l = b.only(t)
	require.Equal(t, "open", l["status"])
	require.InDelta(t, 2, l["failure_count"], 0)
	trail, ok := l["audit"].([]any)
	require.True(t, ok)
	require.Equal(t, "reopen", trail[len(trail)-1].(map[string]any)["action"])
	refusal(1) // compute-ma told of it twice
	require.Equal(t, 204, b.post(2, lettertest.Poison))
	require.InDelta(t, 3, b.only(t)["failure_count"], 0)
}

// Two records of the same event are two letters: neither is a copy of the other.
func TestTheSameEventTwiceOnTheTopicIsTwoLetters(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for i := range 2 {
		b.produce(t, kafkaclient.Record{Topic: b.topic, Value: lettertest.Poison})
		b.produce(t, kafkaclient.Record{Topic: b.dlq, Value: lettertest.Poison, Headers: lettertest.Headers("dlq-topic", b.topic, "dlq-partition", "0", "dlq-offset", fmt.Sprint(i))})
		require.Equal(t, 204, b.post(i, lettertest.Poison))
	}
	require.Len(t, b.listed(t, 2), 2)
	_, err := b.pool.Exec(t.Context(), "update dead_letters set status = 'sent' where record_offset = 0")
	require.NoError(t, err)
	b.produce(t, kafkaclient.Record{Topic: b.dlq, Value: lettertest.Poison, Headers: lettertest.Headers("dlq-topic", b.topic, "dlq-partition", "0", "dlq-offset", "1")})
	require.Equal(t, 204, b.post(2, lettertest.Poison))
	var failures []int
	require.NoError(t, b.pool.QueryRow(t.Context(), "select array_agg(failure_count order by record_offset) from dead_letters").Scan(&failures))
	require.Equal(t, []int{1, 2}, failures)
}

// A topic that was created again begins at offset 0: its records are not those that were stored before.
func TestAPlaceThatToldOfAnotherEventIsANewLetter(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.letterOf(t, lettertest.Poison)
	_, err := b.store.Save(t.Context(), []letter.Arrival{{Letter: letter.Letter{Value: []byte("before")}, Failure: deadletter.Failure{Code: "x", FailedAt: time.Now()}, At: &kafkaclient.Place{Topic: b.dlq, Partition: 0, Offset: 0}}})
	require.NoError(t, err)
	for range 2 {
		require.Equal(t, 204, b.post(0, lettertest.Poison))
	}
	var counts []int
	require.NoError(t, b.pool.QueryRow(t.Context(), "select array_agg(failure_count) from dead_letters").Scan(&counts))
	require.Equal(t, []int{1, 1}, counts)
}

// A record that names the place of another event, or of no record, is a letter of its own.
func TestALetterThatNamesAnotherLettersPlaceIsItsOwn(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.letterOf(t, []byte("first"))
	b.circulated(t, 0, []byte("second"))
	b.circulated(t, 99, []byte("third"))
	for i, value := range []string{"first", "second", "third"} {
		require.Equal(t, 204, b.post(i, []byte(value)))
	}
	b.listed(t, 3)
}

func TestARecordIsNeverATick(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.produce(t, kafkaclient.Record{Topic: b.dlq, Value: lettertest.Poison, Headers: lettertest.Headers("ce_specversion", "1.0", "ce_id", "1", "ce_source", "/s", "ce_type", "dev.knative.sources.ping")})
	require.Equal(t, 204, b.post(0, lettertest.Poison, "Ce-Type", "dev.knative.sources.ping"))
	b.only(t)
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader("x"))
	for name, v := range map[string]string{
		"X-Topic": b.dlq, "X-Kafka-Partition": "0", "X-Kafka-Offset": "7", "X-Kafka-Ce_type": "dev.knative.sources.ping",
		"Ce-Specversion": "1.0", "Ce-Id": "1", "Ce-Source": "/s", "Ce-Type": "dev.knative.sources.ping",
	} {
		r.Header.Set(name, v)
	}
	w := httptest.NewRecorder()
	b.http.ServeHTTP(w, r)
	require.Equal(t, 204, w.Code)
	b.listed(t, 2)
}

// A poison event in structured mode has its attributes in the body.
func TestAnEnvelopeIsRead(t *testing.T) {
	t.Parallel()
	b := setup(t)
	event := `{"specversion":"1.0","id":"e7","source":"/providers/x","type":"marketdata.price.observed.v1","subject":"IBM","data":{"symbol":"aapl","price":-1.10}}`
	b.produce(t, kafkaclient.Record{Topic: b.dlq, Value: []byte(event), Headers: lettertest.Headers("content-type", "Application/CloudEvents+JSON; charset=utf-8", "dlq-code", "invalid_price")})
	// Its KafkaSource delivers the data alone, written anew.
	require.Equal(t, 204, b.post(0, []byte(`{"symbol":"aapl","price":-1.1}`), "Ce-Id", "e7", "Ce-Source", "/providers/x", "Ce-Type", "marketdata.price.observed.v1"))
	l := b.only(t)
	require.Equal(t, event, l["value"])
	require.Equal(t, "invalid_price", l["code"])
	require.Equal(t, "AAPL", l["symbol"])
	attributes, ok := l["attributes"].(map[string]any)
	require.True(t, ok)
	require.Equal(t, "e7", attributes["id"])
	require.Equal(t, "/providers/x", attributes["source"])
}

func TestLettersAreFoundByTheirKey(t *testing.T) {
	t.Parallel()
	b := setup(t)
	large := strings.Repeat(" ", 70<<10)
	for i, c := range []struct{ key, value string }{
		{"KEYED", "\xEF\xBB\xBF{broken"},
		{"keyed", `{"schema":{},"payload":7}`},
		{`"KEYED"`, `[` + large + `]`},
		{`{"schema":{},"payload":"KEYED"}`, "x"},
		{"other", "\xEF\xBB\xBF" + `{"symbol":"keyed"}`},
		{"other", `{"schema":{},"payload":{"symbol":"KEYED"}}`},
		{"other", `{"pad":"` + large + `","symbol":"KEYED"}`},
		{"other", `{"symbol":"KEYED","price":`},
	} {
		b.produce(t, kafkaclient.Record{Topic: b.dlq, Key: []byte(c.key), Value: []byte(c.value), Headers: lettertest.Headers("ce_type", "dev.knative.kafka.event", "ce_subject", "partition:0#1")})
		require.Equal(t, 204, b.post(i, []byte(c.value)))
	}
	for _, query := range []string{"symbol=KEYED", "symbol=keyed", "q=keyed", "q=KEYED"} {
		_, v := b.do(t, http.MethodGet, "/dlq/messages?"+query, "")
		require.Len(t, v["messages"], 8, query)
	}
}
