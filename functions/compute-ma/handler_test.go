package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"marketdata/shared/fault"
	"marketdata/shared/kafkaclient"
	"marketdata/shared/market"
	"marketdata/shared/priceevent"
	"marketdata/shared/service"
)

type fakeStore struct {
	applied []priceevent.Observation
	errs    []error // one for each call; then none
	latest  latest
	err     error
}

func (s *fakeStore) apply(_ context.Context, o priceevent.Observation) (effect, error) {
	if len(s.errs) > 0 {
		err := s.errs[0]
		s.errs = s.errs[1:]
		if err != nil {
			return "", err
		}
	}
	s.applied = append(s.applied, o)
	return inserted, nil
}

func (s *fakeStore) latestAverage(context.Context, market.Symbol, string, int) (latest, error) {
	return s.latest, s.err
}

type fakeDLQ struct {
	letters []kafkaclient.DeadLetter
	err     error
}

func (d *fakeDLQ) Write(_ context.Context, l kafkaclient.DeadLetter) error {
	if d.err == nil {
		d.letters = append(d.letters, l)
	}
	return d.err
}

type bundle struct {
	store *fakeStore
	dlq   *fakeDLQ
	http  http.Handler
}

func setup(t *testing.T) bundle {
	t.Helper()
	b := bundle{store: &fakeStore{}, dlq: &fakeDLQ{}}
	log := slog.New(slog.DiscardHandler)
	srv := service.New("compute-ma", "", service.Config{}, log)
	h := &handler{
		store: b.store, deadLetters: b.dlq, windows: []int{5, 20}, log: log, metrics: newMetrics(prometheus.NewRegistry()),
		now: func() time.Time { return time.Date(2024, 3, 20, 12, 0, 0, 0, time.UTC) },
	}
	h.routes(srv, 1<<20)
	b.http = srv.Handler()
	return b
}

const good = `{"symbol":"AAPL","price":150.250,"timestamp":"2024-03-20T10:30:00.1234567Z","source":"yfinance","raw_response_id":"0190f5d8-0000-7000-8000-000000000001"}`

func (b bundle) post(body string, header ...string) int {
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	b.http.ServeHTTP(w, r)
	return w.Code
}

func ce(extra ...string) []string {
	return append([]string{"Ce-Specversion", "1.0", "Ce-Id", "1", "Ce-Source", "/s", "Ce-Type", priceevent.Type}, extra...)
}

func TestEventIsApplied(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.Equal(t, 204, b.post(good, ce("Ce-Correction", "3")...))
	require.Equal(t, 204, b.post(good, ce("Ce-Type", "dev.knative.kafka.event")...), "a plain record, without content type")
	require.Equal(t, 204, b.post(good, "X-Topic", "price-events", "X-Kafka-Partition", "1", "X-Kafka-Offset", "2", "Content-Type", "text/plain"))
	require.Equal(t, 204, b.post(`{"specversion":"1.0","id":"1","source":"/s","type":"`+priceevent.Type+`","data":`+good+`}`, "Content-Type", "application/cloudevents+json"))
	require.Len(t, b.store.applied, 4)
	require.Equal(t, 3, b.store.applied[0].Correction)
	for _, o := range b.store.applied {
		require.Equal(t, "150.25", o.Price.String())
		require.Equal(t, 123456000, o.ObservedAt.Nanosecond())
	}
	require.Empty(t, b.dlq.letters)
}

func TestPoisonIsDeadLetteredThenAcknowledged(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		body   string
		header []string
		code   string
	}{
		"random bytes":     {"\x00\xff", ce(), "undecodable"},
		"tombstone":        {"", ce(), "no_data"},
		"wrong schema":     {`{"a":1}`, ce(), "invalid_schema"},
		"other type":       {good, ce("Ce-Type", "marketdata.price.observed.v2"), "invalid_type"},
		"bad correction":   {good, ce("Ce-Correction", "x"), "invalid_schema"},
		"negative":         {good, ce("Ce-Correction", "-1"), "invalid_schema"},
		"no CloudEvent":    {good, nil, "undecodable"},
		"no id":            {good, []string{"Ce-Specversion", "1.0", "Ce-Source", "/s", "Ce-Type", "t"}, "undecodable"},
		"a day ahead":      {strings.Replace(good, "2024-03-20T10", "2024-03-22T10", 1), ce(), "invalid_timestamp"},
		"a lying replayid": {"x", ce("Ce-Replayid", "1", "Ce-Knativekafkaoffset", "5"), "undecodable"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			require.Equal(t, 204, b.post(c.body, c.header...))
			require.Empty(t, b.store.applied)
			require.Len(t, b.dlq.letters, 1)
			require.Equal(t, c.body, string(b.dlq.letters[0].Body), "byte for byte")
			require.Equal(t, c.code, fault.CodeOf(b.dlq.letters[0].Err))

			b.dlq.err = errors.New("broker is away")
			require.Equal(t, 503, b.post(c.body, c.header...), "never acknowledged without its letter")
		})
	}
}

func TestTroubleThatMayPassIsGivenBack(t *testing.T) {
	t.Parallel()
	for name, err := range map[string]error{
		"database": fault.New(fault.Unavailable, "storage_unavailable", "x"), "unknown": errors.New("boom"),
	} {
		b := setup(t)
		b.store.errs = []error{err}
		require.GreaterOrEqual(t, b.post(good, ce()...), 500, name)
		require.Empty(t, b.dlq.letters, name)
	}
	b := setup(t)
	b.store.errs = []error{fault.New(fault.Invalid, "storage_refused", "x")}
	require.Equal(t, 204, b.post(good, ce()...))
	require.Len(t, b.dlq.letters, 1)
}

func TestReplayGetsItsVerdict(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.Equal(t, 204, b.post(good, ce("Ce-Replayid", "1")...))
	require.Equal(t, 422, b.post("junk", ce("Ce-Replayid", "1")...))
	b.store.errs = []error{fault.New(fault.Unavailable, "storage_unavailable", "x")}
	require.Equal(t, 503, b.post(good, ce("Ce-Replayid", "1")...))
	require.Empty(t, b.dlq.letters)
}

// The connector acknowledges whatever is answered: the function itself retries briefly, then dead-letters.
func TestOpenFaaSDeliveryIsRetriedHereThenDeadLettered(t *testing.T) {
	t.Parallel()
	header := []string{"X-Topic", "price-events", "X-Kafka-Partition", "1", "X-Kafka-Offset", "2"}
	away := fault.New(fault.Unavailable, "storage_unavailable", "x")
	synctest.Test(t, func(t *testing.T) {
		b := setup(t)
		b.store.errs = []error{away, away, nil}
		began := time.Now()
		require.Equal(t, 204, b.post(good, header...))
		require.Len(t, b.store.applied, 1)
		require.Equal(t, 750*time.Millisecond, time.Since(began))

		b.store.errs = []error{away, away, away, away, away, away}
		require.Equal(t, 204, b.post(good, header...))
		require.Len(t, b.dlq.letters, 1)
		require.Equal(t, "storage_unavailable", fault.CodeOf(b.dlq.letters[0].Err))
	})
}

func TestLatestAverage(t *testing.T) {
	t.Parallel()
	b := setup(t)
	at := time.Date(2024, 3, 20, 10, 30, 0, 0, time.UTC)
	b.store.latest = latest{average: average{5, 5, prices(t, "150.250000000000000001")[0], at, at.Add(-time.Hour)}, complete: true}
	get := func(query string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		b.http.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/averages/latest?"+query, nil))
		return w
	}
	w := get("symbol=aapl&provider=yfinance&window=5")
	require.Equal(t, 200, w.Code)
	//nolint:testifylint // byte for byte: JSONEq would let the digits pass through float64
	require.Equal(t, `{"symbol":"AAPL","provider":"yfinance","window":5,"average":150.250000000000000001,"points_used":5,"complete":true,`+
		`"as_of":"2024-03-20T10:30:00Z","oldest":"2024-03-20T09:30:00Z"}`+"\n", w.Body.String())
	for query, code := range map[string]string{
		"": "invalid_parameter", "symbol=A%20B": "invalid_symbol", "symbol=A&window=7": "invalid_parameter", "symbol=A&window=x": "invalid_parameter",
		"symbol=A&provider=X": "invalid_provider", "symbol=A&x=1": "invalid_parameter",
	} {
		w := get(query)
		require.Equal(t, 400, w.Code, query)
		require.Contains(t, w.Body.String(), `"code":"`+code+`"`, query)
	}
	b.store.err = fault.New(fault.NotFound, "average_not_found", "x")
	require.Equal(t, 404, get("symbol=A").Code)
}

func TestConfigReportsEveryFault(t *testing.T) {
	t.Parallel()
	err := config{Windows: []int{0, 51, 5, 5}}.validate()
	for _, text := range []string{"DATABASE_URL", "KAFKA_BOOTSTRAP_SERVERS", "MA_WINDOWS: 0", "MA_WINDOWS: 51", "MA_WINDOWS: 5 ", "MAX_EVENT_BYTES", "SHUTDOWN_TIMEOUT"} {
		require.ErrorContains(t, err, text)
	}
}
