//go:build integration

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	vm "github.com/VictoriaMetrics/metrics"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"marketdata/shared/api"
	"marketdata/shared/ingress"
	"marketdata/shared/kafkaclient"
	"marketdata/shared/service"
	"marketdata/shared/testenv"
)

// target stands for compute-ma.
type target struct {
	mu     sync.Mutex
	status int
	body   string
	got    http.Header
	value  string
	paths  []string                                        // of events
	calls  map[string]int                                  // by the events' ids
	answer func(r *http.Request) (status int, body string) // nil: status and body
}

func (f *target) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	f.mu.Lock()
	status, body, answer := f.status, f.body, f.answer
	if r.Method == http.MethodPost {
		f.got, f.value = r.Header.Clone(), string(b)
		f.paths = append(f.paths, r.URL.Path)
		f.calls[r.Header.Get("Ce-Id")]++
	}
	f.mu.Unlock()
	if answer != nil {
		status, body = answer(r)
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

// set changes what it answers.
func (f *target) set(status int, body string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.status, f.body = status, body
}

// events is how many it was sent.
func (f *target) events() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.paths)
}

type bundle struct {
	servers    string
	intake     *intake
	topic, dlq string
	producer   *kafkaclient.Producer
	store      *pgStore
	target     *target
	bulks      *bulkRunner
	http       http.Handler
}

func setup(t *testing.T) bundle {
	t.Helper()
	servers := testenv.Kafka(t)
	b := bundle{
		servers: servers, topic: testenv.Topic(t, servers, 1), dlq: testenv.Topic(t, servers, 1), producer: kafkaclient.NewProducer(servers),
		store: &pgStore{pool: testenv.Postgres(t)}, target: &target{status: 204, calls: map[string]int{}},
	}
	t.Cleanup(func() { b.producer.Close(time.Second) })
	reader := kafkaclient.NewReader(servers)
	t.Cleanup(reader.Close)
	server := httptest.NewServer(b.target)
	t.Cleanup(server.Close)
	log := slog.New(slog.DiscardHandler)
	srv := service.New(service.Config{}, log)
	replay := &replayer{
		store: b.store, target: server.URL, client: server.Client(), topics: []string{b.topic}, records: b.producer, maxReplays: 2, now: time.Now,
	}
	b.bulks = newBulkRunner(b.store, replay, log, newMetrics(vm.NewSet()), nil)
	t.Cleanup(func() { b.bulks.wait(time.Minute) })
	in := newIntake(b.store, reader, b.dlq, []string{b.topic, b.dlq}, time.Now)
	t.Cleanup(in.close)
	b.intake = in
	h := &handler{
		store:   b.store,
		intake:  in,
		replay:  replay,
		bulks:   b.bulks,
		access:  newAccess("", "secret"),
		metrics: newMetrics(vm.NewSet()),
	}
	h.routes(srv.Mux, api.New(srv, "dlq-inspector", ""), func(next http.Handler) http.Handler { return next })
	b.http = srv.Handler()
	return b
}

func (b bundle) produce(t *testing.T, r kafkaclient.Record) {
	t.Helper()
	require.NoError(t, b.producer.Produce(context.Background(), r))
}

// deliver is post in a test that needs nothing else of it.
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

// only gives the one letter there is, whole.
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

// letterOf produces an original and its dead letter, as compute-ma writes it, and gives the dead letter's value.
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

var poison = []byte("\x00\xff poison")

func TestLetterIsTheOriginalByteForByte(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.letterOf(t, poison)
	for range 3 {
		require.Equal(t, 204, b.deliver(t, 0, poison), "the same record again is nothing new")
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
	require.NoError(t, b.store.pool.QueryRow(t.Context(), "select value from dead_letters").Scan(&stored))
	require.Equal(t, poison, stored)
}

// OpenFaaS' connector shows the place by other names; the record is read there all the same.
func TestLetterFromTheOpenFaaSConnectorIsExact(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.letterOf(t, poison)
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(string(poison)))
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
	require.Equal(t, 204, b.deliver(t, 0, poison), "the KafkaSource's delivery of the same record is nothing new")
	require.InDelta(t, 1, b.only(t)["failure_count"], 0)
}

func TestSameLetterAgainIsOneMoreFailure(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.letterOf(t, poison)
	require.Equal(t, 204, b.deliver(t, 0, poison))
	b.letterOf(t, poison) // the same original place, another dead letter record
	require.Equal(t, 204, b.deliver(t, 1, poison))
	require.InDelta(t, 2, b.only(t)["failure_count"], 0)
}

func TestLetterThatCirculatedIsFollowedBack(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.letterOf(t, poison)
	for hop := range 2 { // the inspector was away: the dead letter sink wrote the letter to its own topic again
		b.produce(t, kafkaclient.Record{Topic: b.dlq, Value: poison, Headers: []kafkaclient.Header{
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
	require.Equal(t, 204, b.deliver(t, 2, poison))
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

func TestBrokerTroubleIs503(t *testing.T) {
	t.Parallel()
	b := setup(t)
	away := kafkaclient.NewReader("127.0.0.1:1")
	defer away.Close()
	in := newIntake(b.store, away, b.dlq, []string{b.topic}, time.Now)
	defer in.close()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	h := http.Header{"Ce-Kafkatopic": {b.dlq}, "Ce-Knativekafkapartition": {"0"}, "Ce-Knativekafkaoffset": {"0"}}
	require.Error(t, in.receive(ctx, ingress.Delivery{Header: h, Body: poison}))
	_, list := b.do(t, http.MethodGet, "/dlq/messages", "")
	require.Empty(t, list["messages"])
}

func TestReplayAndItsVerdicts(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.letterOf(t, poison)
	require.Equal(t, 204, b.deliver(t, 0, poison))
	path := fmt.Sprint("/dlq/messages/", b.only(t)["id"])

	b.target.status, b.target.body = 422, `{"code":"undecodable","detail":"data is not JSON"}`
	status, l := b.do(t, http.MethodPost, path+"/replay", "")
	require.Equal(t, http.StatusOK, status, l)
	require.Equal(t, "open", l["status"])
	require.Equal(t, "undecodable", l["code"])
	require.InDelta(t, 2, l["failure_count"], 0)
	require.Equal(t, string(poison), b.target.value, "byte for byte")
	require.Equal(t, "e1", b.target.got.Get("Ce-Id"))
	require.Equal(t, "/providers/x", b.target.got.Get("Ce-Source"))
	require.NoError(t, uuid.Validate(b.target.got.Get("Ce-Replayid")))
	require.Equal(t, "1", b.target.got.Get("Ce-Replaycount"))
	require.Empty(t, b.target.got.Get("Ce-Knativekafkaoffset"))
	require.Empty(t, b.target.got.Get("Ce-Correction"))

	b.target.status = 503
	status, l = b.do(t, http.MethodPost, path+"/replay", `{"reason":"again"}`)
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Equal(t, "replay_failed", l["code"])
	require.Equal(t, "open", b.only(t)["status"])
	require.InDelta(t, 1, b.only(t)["replay_count"], 0, "no verdict, no replay")

	b.target.status = 422
	status, _ = b.do(t, http.MethodPost, path+"/replay", "")
	require.Equal(t, http.StatusOK, status)
	status, l = b.do(t, http.MethodPost, path+"/replay", "")
	require.Equal(t, http.StatusConflict, status)
	require.Equal(t, "replay_limit", l["code"])

	status, l = b.do(t, http.MethodPost, path+"/replay", `{"force":true,"value":"{}"}`)
	require.Equal(t, http.StatusBadRequest, status)
	require.Equal(t, "invalid_schema", l["code"], "an edited value is checked first")

	b.target.status = 204
	fixed := `{"symbol":"AAPL","price":1,"timestamp":"2024-01-01T00:00:00Z","source":"x","raw_response_id":"0190f5d8-0000-7000-8000-000000000001"}`
	request, err := json.Marshal(map[string]any{"force": true, "value": fixed, "reason": "fixed"})
	require.NoError(t, err)
	status, l = b.do(t, http.MethodPost, path+"/replay", string(request))
	require.Equal(t, http.StatusOK, status, l)
	require.Equal(t, "resolved", l["status"])
	require.Equal(t, fixed, b.target.value)
	require.Equal(t, "1", b.target.got.Get("Ce-Correction"))
	require.Equal(t, "application/json", b.target.got.Get("Content-Type"))

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
	b.letterOf(t, poison)
	require.Equal(t, 204, b.deliver(t, 0, poison))
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
	b.letterOf(t, poison)
	require.Equal(t, 204, b.deliver(t, 0, poison))
	_, err := b.store.pool.Exec(t.Context(), "update dead_letters set status = 'replaying', replay_token = gen_random_uuid(), replay_expires_at = now() - interval '1 second'")
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
		b.keep(t, letter{Value: []byte{byte(i)}}, failure{Code: "invalid_price", FailedAt: time.Now()})
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
	status, _ = b.do(t, http.MethodGet, "/dlq/messages?page_token=x", "")
	require.Equal(t, http.StatusBadRequest, status)
}

// keep stores a letter as it came in, past the intake.
func (b bundle) keep(t *testing.T, l letter, f failure) {
	t.Helper()
	refused, err := b.store.save(t.Context(), []arrival{{letter: l, failure: f}})
	require.NoError(t, err)
	require.Equal(t, []error{nil}, refused)
}
