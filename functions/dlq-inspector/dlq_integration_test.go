//go:build integration

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"marketdata/functions/dlq-inspector/internal/letter"
	"marketdata/functions/dlq-inspector/internal/lettertest"
	"marketdata/shared/deadletter"
	"marketdata/shared/kafkaclient"
)

func (b bundle) produce(t *testing.T, r kafkaclient.Record) {
	t.Helper()
	require.NoError(t, b.producer.Produce(context.Background(), r))
}

// deliver is post as a test helper.
func (b bundle) deliver(t *testing.T, offset int, value []byte, attributes ...string) int {
	t.Helper()
	return b.post(offset, value, attributes...)
}

func (b bundle) do(t *testing.T, method, path, body string) (int, map[string]any) {
	t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer secret")
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	w := httptest.NewRecorder()
	b.http.ServeHTTP(w, r)
	var v map[string]any
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &v), w.Body.String())
	return w.Code, v
}

// only returns the only letter, with its contents.
func (b bundle) only(t *testing.T) map[string]any {
	t.Helper()
	status, list := b.do(t, http.MethodGet, "/dlq/messages", "")
	require.Equal(t, http.StatusOK, status)
	all, ok := list["messages"].([]any)
	require.True(t, ok)
	require.Len(t, all, 1)
	first, ok := all[0].(map[string]any)
	require.True(t, ok)
	require.NotContains(t, first, "value")
	status, letter := b.do(t, http.MethodGet, fmt.Sprint("/dlq/messages/", first["id"]), "")
	require.Equal(t, http.StatusOK, status)
	return letter
}

// letterOf produces an original and its dead letter as compute-ma writes it.
func (b bundle) letterOf(t *testing.T, value []byte, extra ...kafkaclient.Header) {
	t.Helper()
	b.produce(t, kafkaclient.Record{Topic: b.topic, Key: []byte{0, 255}, Value: value, Headers: []kafkaclient.Header{{Name: "raw", Value: []byte{1, 0}}}})
	h := append([]kafkaclient.Header{
		{Name: "ce_specversion", Value: []byte("1.0")},
		{Name: "ce_id", Value: []byte("e1")},
		{Name: "ce_source", Value: []byte("/providers/x")},
		{Name: "ce_type", Value: []byte("marketdata.price.observed.v1")},
		{Name: "ce_knativekafkaoffset", Value: []byte("0")},
		{Name: "dlq-topic", Value: []byte(b.topic)},
		{Name: "dlq-partition", Value: []byte("0")},
		{Name: "dlq-offset", Value: []byte("0")},
		{Name: "dlq-code", Value: []byte("invalid_price")},
		{Name: "dlq-reason", Value: []byte("price must be greater than 0")},
	}, extra...)
	b.produce(t, kafkaclient.Record{Topic: b.dlq, Value: value, Headers: h})
}

func TestLetterIsTheOriginalByteForByte(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.letterOf(t, lettertest.Poison)
	for range 3 {
		require.Equal(t, 204, b.deliver(t, 0, lettertest.Poison), "the same record again changes nothing")
	}
	l := b.only(t)
	require.Equal(t, true, l["exact"])
	require.Equal(t, "invalid_price", l["code"])
	require.InDelta(t, 1, l["failure_count"], 0)
	require.Equal(t, "base64", l["value_encoding"])
	require.Equal(t, "AP8=", l["key"])
	require.Equal(t, []any{map[string]any{"name": "raw", "value": "AQA=", "encoding": "base64"}}, l["headers"])
	require.Equal(t, b.topic, l["topic"])
	var stored []byte
	require.NoError(t, b.pool.QueryRow(t.Context(), "select value from dead_letters").Scan(&stored))
	require.Equal(t, lettertest.Poison, stored)
}

// OpenFaaS' connector has other headers for the place of a record; the record is still read there.
func TestLetterFromTheOpenFaaSConnectorIsExact(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.letterOf(t, lettertest.Poison)
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(string(lettertest.Poison)))
	for name, v := range map[string]string{
		"X-Topic": b.dlq, "X-Kafka-Partition": "0", "X-Kafka-Offset": "0", "X-Connector": "kafka-connector", "Content-Type": "text/plain", "X-Kafka-Dlq-Code": "invalid_price",
	} {
		r.Header.Set(name, v)
	}
	w := httptest.NewRecorder()
	b.http.ServeHTTP(w, r)
	require.Equal(t, 204, w.Code)
	l := b.only(t)
	require.Equal(t, true, l["exact"])
	require.Equal(t, "invalid_price", l["code"])
	require.Equal(t, b.topic, l["topic"])
	require.Equal(t, 204, b.deliver(t, 0, lettertest.Poison), "the KafkaSource's delivery of the same record changes nothing")
	require.InDelta(t, 1, b.only(t)["failure_count"], 0)
}

func TestSameLetterAgainIsOneMoreFailure(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.letterOf(t, lettertest.Poison)
	require.Equal(t, 204, b.deliver(t, 0, lettertest.Poison))
	b.letterOf(t, lettertest.Poison) // the same original place, another dead letter record
	require.Equal(t, 204, b.deliver(t, 1, lettertest.Poison))
	require.InDelta(t, 2, b.only(t)["failure_count"], 0)
}

func TestLetterThatCirculatedIsFollowedBack(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.letterOf(t, lettertest.Poison)
	for hop := range 2 { // the inspector was down: the dead letter sink wrote the letter to its own topic again
		b.produce(t, kafkaclient.Record{Topic: b.dlq, Value: lettertest.Poison, Headers: []kafkaclient.Header{
			{Name: "ce_specversion", Value: []byte("1.0")},
			{Name: "ce_id", Value: []byte("e1")},
			{Name: "ce_source", Value: []byte("/providers/x")},
			{Name: "ce_type", Value: []byte("t")},
			{Name: "ce_kafkatopic", Value: []byte(b.dlq)},
			{Name: "ce_knativekafkapartition", Value: []byte("0")},
			{Name: "ce_knativekafkaoffset", Value: fmt.Append(nil, hop)},
			{Name: "ce_knativeerrorcode", Value: []byte("503")},
		}})
	}
	require.Equal(t, 204, b.deliver(t, 2, lettertest.Poison))
	l := b.only(t)
	require.Equal(t, b.topic, l["topic"])
	require.Equal(t, "invalid_price", l["code"], "why the event failed, not why its letter was late")
	require.Equal(t, true, l["exact"])
}

func TestWhatCannotBeReadIsStoredRaw(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w := httptest.NewRecorder()
	b.http.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", strings.NewReader("no event at all")))
	require.Equal(t, 204, w.Code)
	l := b.only(t)
	require.Equal(t, "no event at all", l["value"])
	require.Equal(t, false, l["exact"])
	require.Equal(t, "unknown", l["code"])
}

func TestPlaceThatLiesIsNotExact(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.letterOf(t, []byte("other"), kafkaclient.Header{Name: "dlq-offset", Value: []byte("7")}) // the last header of a name wins
	require.Equal(t, 204, b.deliver(t, 0, []byte("other")))
	require.Equal(t, false, b.only(t)["exact"], "there is no record at that place")
}

func TestReplayAndItsVerdicts(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.letterOf(t, lettertest.Poison)
	require.Equal(t, 204, b.deliver(t, 0, lettertest.Poison))
	path := fmt.Sprint("/dlq/messages/", b.only(t)["id"])

	b.target.Status, b.target.Body = 422, `{"code":"undecodable","detail":"data is not JSON"}`
	status, l := b.do(t, http.MethodPost, path+"/replay", "")
	require.Equal(t, http.StatusOK, status, l)
	require.Equal(t, "open", l["status"])
	require.Equal(t, "undecodable", l["code"])
	require.InDelta(t, 2, l["failure_count"], 0)
	require.Equal(t, string(lettertest.Poison), b.target.Value, "byte for byte")
	require.Equal(t, "e1", b.target.Got.Get("Ce-Id"))
	require.Equal(t, "/providers/x", b.target.Got.Get("Ce-Source"))
	require.NoError(t, uuid.Validate(b.target.Got.Get("Ce-Replayid")))
	require.Equal(t, "1", b.target.Got.Get("Ce-Replaycount"))
	require.Empty(t, b.target.Got.Get("Ce-Knativekafkaoffset"))
	require.Empty(t, b.target.Got.Get("Ce-Correction"))

	b.target.Status = 503
	status, l = b.do(t, http.MethodPost, path+"/replay", `{"reason":"again"}`)
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Equal(t, "replay_failed", l["code"])
	require.Equal(t, "open", b.only(t)["status"])
	require.InDelta(t, 1, b.only(t)["replay_count"], 0, "no verdict, no replay")

	b.target.Status = 422
	status, _ = b.do(t, http.MethodPost, path+"/replay", "")
	require.Equal(t, http.StatusOK, status)
	status, l = b.do(t, http.MethodPost, path+"/replay", "")
	require.Equal(t, http.StatusConflict, status)
	require.Equal(t, "replay_limit", l["code"])

	status, l = b.do(t, http.MethodPost, path+"/replay", `{"force":true,"value":"{}"}`)
	require.Equal(t, http.StatusBadRequest, status)
	require.Equal(t, "invalid_schema", l["code"], "an edited value is checked first")

	b.target.Status = 204
	fixed := `{"symbol":"AAPL","price":1,"timestamp":"2024-01-01T00:00:00Z","source":"x","raw_response_id":"0190f5d8-0000-7000-8000-000000000001"}`
	request, err := json.Marshal(map[string]any{"force": true, "value": fixed, "reason": "fixed"})
	require.NoError(t, err)
	status, l = b.do(t, http.MethodPost, path+"/replay", string(request))
	require.Equal(t, http.StatusOK, status, l)
	require.Equal(t, "resolved", l["status"])
	require.Equal(t, fixed, b.target.Value)
	require.Equal(t, "1", b.target.Got.Get("Ce-Correction"))
	require.Equal(t, "application/json", b.target.Got.Get("Content-Type"))

	status, _ = b.do(t, http.MethodPost, path+"/replay", `{"force":true}`)
	require.Equal(t, http.StatusConflict, status, "a resolved letter is not replayed")
	trail, ok := b.only(t)["audit"].([]any)
	require.True(t, ok)
	var actions []string
	for _, entry := range trail {
		m, ok := entry.(map[string]any)
		require.True(t, ok)
		require.Equal(t, "operator", m["who"])
		actions = append(actions, fmt.Sprint(m["action"]))
	}
	require.Equal(t, []string{"replay", "reopen", "replay", "reopen", "replay", "reopen", "replay", "resolve"}, actions)
}

func TestDiscardAndRestore(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.letterOf(t, lettertest.Poison)
	require.Equal(t, 204, b.deliver(t, 0, lettertest.Poison))
	path := fmt.Sprint("/dlq/messages/", b.only(t)["id"])
	status, l := b.do(t, http.MethodPost, path+"/discard", `{"reason":"noise"}`)
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "discarded", l["status"])
	status, _ = b.do(t, http.MethodPost, path+"/discard", "")
	require.Equal(t, http.StatusConflict, status)
	status, _ = b.do(t, http.MethodPost, path+"/replay", "")
	require.Equal(t, http.StatusConflict, status)
	_, stats := b.do(t, http.MethodGet, "/dlq/stats", "")
	require.Equal(t, map[string]any{"open": 0.0, "replaying": 0.0, "resolved": 0.0, "sent": 0.0, "discarded": 1.0}, stats["statuses"])
	status, l = b.do(t, http.MethodPost, path+"/restore", "")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "open", l["status"])
	status, _ = b.do(t, http.MethodPost, "/dlq/messages/"+uuid.NewString()+"/discard", "")
	require.Equal(t, http.StatusNotFound, status)
	status, _ = b.do(t, http.MethodGet, "/dlq/messages/not-a-uuid", "")
	require.Equal(t, http.StatusBadRequest, status)
}

func TestStuckReplayIsOpenedByATick(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.letterOf(t, lettertest.Poison)
	require.Equal(t, 204, b.deliver(t, 0, lettertest.Poison))
	_, err := b.pool.Exec(t.Context(), "update dead_letters set status = 'replaying', replay_token = gen_random_uuid(), replay_expires_at = now() - interval '1 second'")
	require.NoError(t, err)
	b.tick(t)
	l := b.only(t)
	require.Equal(t, "open", l["status"])
}

func TestListFiltersAndPages(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for i := range 5 {
		w := httptest.NewRecorder()
		b.http.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", strings.NewReader(fmt.Sprintf(`{"symbol":"S%d"}`, i))))
		require.Equal(t, 204, w.Code)
	}
	seen, token := 0, ""
	for {
		status, v := b.do(t, http.MethodGet, "/dlq/messages?limit=2&status=open&page_token="+token, "")
		require.Equal(t, http.StatusOK, status)
		page, ok := v["messages"].([]any)
		require.True(t, ok)
		seen += len(page)
		if v["next_page_token"] == nil {
			break
		}
		token = fmt.Sprint(v["next_page_token"])
	}
	require.Equal(t, 5, seen)
	for query, want := range map[string]int{
		"symbol=S3": 1, "symbol=NOPE": 0, "q=s4": 1, "status=discarded": 0, "since=2999-01-01T00:00:00Z": 0, "until=2999-01-01T00:00:00Z": 5,
		"until=0001-01-01T00:00:00Z": 0, "since=0001-01-01T00:00:00Z": 5, "topic=x": 0,
	} {
		status, v := b.do(t, http.MethodGet, "/dlq/messages?"+query, "")
		require.Equal(t, http.StatusOK, status, query)
		require.Len(t, v["messages"], want, query)
	}
	for i := range 6 {
		b.keep(t, letter.Letter{Value: []byte{byte(i)}}, deadletter.Failure{Code: "invalid_price", FailedAt: time.Now()})
	}
	_, groups := b.do(t, http.MethodGet, "/dlq/groups", "")
	require.Nil(t, groups["next_page_token"])
	require.Len(t, groups["groups"], 2)
	cause, ok := groups["groups"].([]any)[0].(map[string]any) // the larger one
	require.True(t, ok)
	require.NotEmpty(t, cause["meaning"], "an operator sees what a cause means without opening a letter")
	require.NotEmpty(t, cause["remedy"])
	status, _ := b.do(t, http.MethodGet, "/dlq/messages?since=yesterday", "")
	require.Equal(t, http.StatusBadRequest, status)
	status, _ = b.do(t, http.MethodGet, "/dlq/messages?status=sent&page_token="+token, "")
	require.Equal(t, http.StatusBadRequest, status, "the token is of another query")
	status, _ = b.do(t, http.MethodGet, "/dlq/messages?page_token=x", "")
	require.Equal(t, http.StatusBadRequest, status)
}

// keep stores a letter without the intake.
func (b bundle) keep(t *testing.T, l letter.Letter, f deadletter.Failure) {
	t.Helper()
	refused, err := b.store.Save(t.Context(), []letter.Arrival{{Letter: l, Failure: f}})
	require.NoError(t, err)
	require.Equal(t, []error{nil}, refused)
}
