package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	vm "github.com/VictoriaMetrics/metrics"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"marketdata/functions/compute-ma/internal/model"
	"marketdata/functions/compute-ma/internal/series"
	"marketdata/functions/compute-ma/internal/store"
	"marketdata/shared/deadletter"
	"marketdata/shared/fault"
	"marketdata/shared/ingress"
	"marketdata/shared/priceevent"
	"marketdata/shared/service"
)

type fakeStore struct {
	applied []priceevent.Observation
	errs    []error // one for each call; then none
	effect  store.Effect
	average series.Average
}

func (s *fakeStore) Commit(_ context.Context, o priceevent.Observation) (store.Effect, error) {
	if len(s.errs) > 0 {
		err := s.errs[0]
		s.errs = s.errs[1:]
		if err != nil {
			return store.Effect{}, err
		}
	}
	s.applied = append(s.applied, o)
	return s.effect, nil
}

func (s *fakeStore) Rehearse(ctx context.Context, o priceevent.Observation) (store.Effect, []series.Average, error) {
	effect, err := s.Commit(ctx, o)
	return effect, []series.Average{s.average}, err
}

type fakeDLQ struct {
	letters []deadletter.Letter
	err     error
}

func (d *fakeDLQ) Write(ctx context.Context, l deadletter.Letter) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if d.err == nil {
		d.letters = append(d.letters, l)
	}
	return d.err
}

type bundle struct {
	store *fakeStore
	dlq   *fakeDLQ
	http  http.Handler
	now   func() time.Time
}

func setup(tb testing.TB) bundle {
	tb.Helper()
	return setupWith(tb, slog.New(slog.DiscardHandler))
}

func setupWith(tb testing.TB, log *slog.Logger) bundle {
	tb.Helper()
	b := bundle{store: &fakeStore{effect: store.Effect{Outcome: store.Inserted}}, dlq: &fakeDLQ{}}
	srv := service.New(service.Config{}, log)
	r := &receiver{
		events: b.store, rehearsals: b.store, deadLetters: b.dlq, maxBytes: 1 << 20, log: log, metrics: newMetrics(srv.Metrics),
		now: func() time.Time { return time.Date(2024, 3, 20, 12, 0, 0, 0, time.UTC) },
	}
	r.routes(srv.Mux)
	b.http, b.now = srv.Handler(), r.now
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

func (b bundle) get(target string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	b.http.ServeHTTP(w, httptest.NewRequest(http.MethodGet, target, nil))
	return w
}

func ce(extra ...string) []string {
	return append([]string{"Ce-Specversion", "1.0", "Ce-Id", "1", "Ce-Source", "/s", "Ce-Type", priceevent.Type}, extra...)
}

// structured gives the good event in structured mode, with more members.
func structured(extra string) string {
	return `{"specversion":"1.0","id":"1","source":"/s","type":"` + priceevent.Type + `","data":` + good + extra + `}`
}

func TestCorrections(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{"0": 0, "7": 7, "2147483647": 2147483647} {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			require.Equal(t, 204, b.post(good, ce("Ce-Correction", text)...))
			require.Equal(t, 204, b.post(structured(`,"correction":`+text), "Content-Type", "application/cloudevents+json"))
			require.Equal(t, 204, b.post(structured(`,"correction":"`+text+`"`), "Content-Type", "application/cloudevents+json"))
			require.Equal(t, 204, b.post(good, "X-Topic", "t", "X-Kafka-Offset", "1", "X-Kafka-Ce_specversion", "1.0", "X-Kafka-Ce_id", "1",
				"X-Kafka-Ce_source", "/s", "X-Kafka-Ce_type", priceevent.Type, "X-Kafka-Ce_correction", text))
			require.Len(t, b.store.applied, 4)
			for _, o := range b.store.applied {
				require.Equal(t, want, o.Correction)
			}
		})
	}
}

// Metadata of the record says nothing about the price.
func TestGoodEventWithUnusableMetadataIsApplied(t *testing.T) {
	t.Parallel()
	for name, header := range map[string][]string{
		"timestamp in microseconds": ce("Ce-Type", "dev.knative.kafka.event", "Ce-Time", "+55840-11-08T22:15:23.456Z"),
		"source":                    ce("Ce-Source", "%zz"),
		"header names":              ce("Ce-a.b", "x"),
		"content type":              ce("Content-Type", "application/cloudevents+json"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			require.Equal(t, 204, b.post(good, header...))
			require.Len(t, b.store.applied, 1)
			require.Empty(t, b.dlq.letters)
		})
	}
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
		"random bytes":                    {"\x00\xff", ce(), "undecodable"},
		"tombstone":                       {"", ce(), "no_data"},
		"wrong schema":                    {`{"a":1}`, ce(), "invalid_schema"},
		"other type":                      {good, ce("Ce-Type", "marketdata.price.observed.v2"), "invalid_type"},
		"bad correction":                  {good, ce("Ce-Correction", "x"), "invalid_schema"},
		"negative":                        {good, ce("Ce-Correction", "-1"), "invalid_schema"},
		"exponent":                        {good, ce("Ce-Correction", "1e1"), "invalid_schema"},
		"fraction":                        {good, ce("Ce-Correction", "5.5"), "invalid_schema"},
		"whole fraction":                  {good, ce("Ce-Correction", "5.0"), "invalid_schema"},
		"leading zero":                    {good, ce("Ce-Correction", "05"), "invalid_schema"},
		"sign":                            {good, ce("Ce-Correction", "+5"), "invalid_schema"},
		"beyond 32 bits":                  {good, ce("Ce-Correction", "2147483648"), "invalid_schema"},
		"empty":                           {good, ce("Ce-Correction", ""), "invalid_schema"},
		"number in JSON":                  {structured(`,"correction":1e1`), []string{"Content-Type", "application/cloudevents+json"}, "invalid_schema"},
		"a record that says it is a tick": {"{}", ce("Ce-Type", "dev.knative.sources.ping", "Ce-Knativekafkaoffset", "5"), "invalid_type"},
		"no CloudEvent":                   {good, nil, "undecodable"},
		"no id":                           {good, []string{"Ce-Specversion", "1.0", "Ce-Source", "/s", "Ce-Type", "t"}, "undecodable"},
		"a day ahead":                     {strings.Replace(good, "2024-03-20T10", "2024-03-22T10", 1), ce(), "invalid_timestamp"},
		"batch":                           {"[]", []string{"Content-Type", "application/cloudevents-batch+json"}, "undecodable"},
		"a lying replayid":                {"x", ce("Ce-Replayid", "1", "Ce-Knativekafkaoffset", "5"), "undecodable"},
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
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.store.errs = []error{err}
			require.GreaterOrEqual(t, b.post(good, ce()...), 500)
			require.Empty(t, b.dlq.letters)
		})
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
	require.Equal(t, 422, b.post(strings.Replace(structured(`,"replayid":"1"`), "150.250", "-1", 1), "Content-Type", "application/cloudevents+json"))
	b.store.errs = []error{fault.New(fault.Unavailable, "storage_unavailable", "x")}
	require.Equal(t, 503, b.post(good, ce("Ce-Replayid", "1")...))
	require.Empty(t, b.dlq.letters)
}

// Whatever a topic delivers ends as a letter: the dead letter sink could not take it. Others are told.
func TestOversizedEvent(t *testing.T) {
	t.Parallel()
	b := setup(t)
	big := `{"x":"` + strings.Repeat("x", 1<<20) + `"}`
	require.Equal(t, 413, b.post(big, ce()...))
	require.Equal(t, 413, b.post(big, ce("Ce-Replayid", "1")...))
	require.Empty(t, b.dlq.letters)
	for name, header := range map[string][]string{
		"KafkaSource": ce("Ce-Kafkatopic", "price-events", "Ce-Knativekafkapartition", "1", "Ce-Knativekafkaoffset", "2"),
		"OpenFaaS":    {"X-Topic", "price-events", "X-Kafka-Partition", "1", "X-Kafka-Offset", "2"},
	} {
		b.dlq.letters = nil
		require.Equal(t, 204, b.post(big, header...), name)
		require.Len(t, b.dlq.letters, 1, name)
		require.Equal(t, "body_too_large", fault.CodeOf(b.dlq.letters[0].Err), name)
		require.Equal(t, big, string(b.dlq.letters[0].Body), name)
		huge := strings.Repeat("x", 3<<20)
		require.Equal(t, 204, b.post(huge, header...), name)
		require.EqualValues(t, len(huge), b.dlq.letters[1].Size, name)
	}
}

// Once its retries are used up, an event goes to a KafkaSink, which cannot take more than 1 MiB with all headers.
func TestTroubleWithAnEventThatTheSinkCannotTake(t *testing.T) {
	t.Parallel()
	record := func(extra ...string) []string {
		return ce(append([]string{"Ce-Kafkatopic", "price-events", "Ce-Knativekafkapartition", "1", "Ce-Knativekafkaoffset", "2"}, extra...)...)
	}
	large := strings.Replace(good, "{", `{"x":"`+strings.Repeat("x", 1<<20-1000)+`",`, 1)
	for name, c := range map[string]struct {
		body   string
		header []string
		status int
	}{
		"usual":                {good, record(), 503},
		"large":                {large, record(), 204},
		"large headers":        {good, record("Ce-X", strings.Repeat("x", 1<<20)), 204},
		"large, from no topic": {large, ce(), 503},
		"large replay":         {large, ce("Ce-Replayid", "1"), 503},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			require.Equal(t, 204, b.post(c.body, c.header...))
			require.Empty(t, b.dlq.letters, "applied while all is well")
			b.store.errs = []error{fault.New(fault.Unavailable, "storage_unavailable", "x")}
			require.Equal(t, c.status, b.post(c.body, c.header...))
			if c.status == 503 {
				require.Empty(t, b.dlq.letters)
				return
			}
			require.Len(t, b.dlq.letters, 1)
			require.Equal(t, "storage_unavailable", fault.CodeOf(b.dlq.letters[0].Err))
			b.dlq.err = errors.New("broker is away")
			b.store.errs = []error{fault.New(fault.Unavailable, "storage_unavailable", "x")}
			require.Equal(t, 503, b.post(c.body, c.header...), "never acknowledged without its letter")
		})
	}
}

func TestDryRunTellsAndChangesNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.store.average = series.Average{Window: 5, PointsUsed: 1, Mean: series.NewValue(model.Prices(t, "150.25")[0].Decimal()), AsOf: 1e6, Oldest: 1e6}
	ask := func(body string, header ...string) string {
		r := httptest.NewRequest(http.MethodPost, "/dry-run", strings.NewReader(body))
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		w := httptest.NewRecorder()
		b.http.ServeHTTP(w, r)
		require.Equal(t, 200, w.Code, w.Body.String())
		return strings.TrimSpace(w.Body.String())
	}
	b.store.effect = store.Effect{Outcome: store.Inserted, Late: true}
	require.Equal(t, `{"verdict":"applied","status":204,"effect":"inserted","late":true,"averages":[{"symbol":"AAPL","provider":"yfinance","window":5,`+ //nolint:testifylint // byte for byte
		`"average":150.25,"points_used":1,"complete":false,"as_of":"1970-01-01T00:00:01Z","oldest":"1970-01-01T00:00:01Z"}]}`, ask(good, ce()...))
	b.store.effect = store.Effect{Outcome: store.Duplicate}
	require.Contains(t, ask(good, ce()...), `{"verdict":"duplicate","status":204,"effect":"duplicate"`)
	require.JSONEq(t, `{"verdict":"dead_letter","status":422,"code":"undecodable","reason":"data is not JSON"}`, ask("junk", ce()...))
	require.JSONEq(t, `{"verdict":"dead_letter","status":422,"code":"undecodable","reason":"the request is not a CloudEvent"}`, ask(good))
	require.Contains(t, ask(strings.Repeat("x", 1<<20+1), ce()...), `{"verdict":"dead_letter","status":413,"code":"body_too_large"`)
	b.store.errs = []error{fault.New(fault.Unavailable, "storage_unavailable", "the database does not answer")}
	require.JSONEq(t, `{"verdict":"retry","status":503,"code":"storage_unavailable","reason":"the database does not answer"}`, ask(good, ce()...))
	b.store.errs = []error{&pgconn.PgError{Code: "22003"}}
	require.JSONEq(t, `{"verdict":"dead_letter","status":422,"code":"storage_refused","reason":"the database refuses the values"}`, ask(good, ce()...))
	b.store.errs = []error{&pgconn.PgError{Code: "57P01"}}
	require.JSONEq(t, `{"verdict":"retry","status":503,"code":"storage_unavailable","reason":"the database does not answer"}`, ask(good, ce()...))
	require.Empty(t, b.dlq.letters)

	r := httptest.NewRequest(http.MethodPost, "/dry-run", strings.NewReader(good))
	r.Header.Set("Origin", "https://evil.example.com")
	w := httptest.NewRecorder()
	b.http.ServeHTTP(w, r)
	require.Equal(t, http.StatusForbidden, w.Code, "another site's page cannot hold a series")
}

// A handler that panics on an event has refused it for ever: its dead letter is written like any other.
func TestPanicOnOneEventIsItsDeadLetter(t *testing.T) {
	t.Parallel()
	for name, header := range map[string][]string{"KafkaSource": ce(), "OpenFaaS": {"X-Topic", "t", "X-Kafka-Partition", "0", "X-Kafka-Offset", "1"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.store.errs = []error{nil}
			panicking := &receiver{
				events: panics{}, deadLetters: b.dlq, maxBytes: 1 << 20, log: slog.New(slog.DiscardHandler),
				now: time.Now, metrics: newMetrics(vm.NewSet()),
			}
			w := httptest.NewRecorder()
			r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(good))
			for i := 0; i < len(header); i += 2 {
				r.Header.Set(header[i], header[i+1])
			}
			ingress.Handler{MaxBytes: 1 << 20, Handle: panicking.receive, Refuse: panicking.refuse}.ServeHTTP(w, r)
			require.Equal(t, 204, w.Code)
			require.Len(t, b.dlq.letters, 1)
			require.Equal(t, fault.CodePanic, fault.CodeOf(b.dlq.letters[0].Err))
		})
	}
}

type panics struct{}

func (panics) Commit(context.Context, priceevent.Observation) (store.Effect, error) { panic("boom") }

// A quote that is late or corrected has a log line; a history of bars, of which thousands are, has none.
func TestBarsAreNotLoggedOneByOne(t *testing.T) {
	t.Parallel()
	for provider, lines := range map[string]int{"yfinance": 2, "yfinance-1d": 0} {
		t.Run(provider, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			b := setupWith(t, slog.New(slog.NewTextHandler(&out, nil)))
			for _, effect := range []store.Effect{{Outcome: store.Inserted, Late: true}, {Outcome: store.Corrected}, {Outcome: store.Inserted}} {
				b.store.effect = effect
				require.Equal(t, 204, b.post(strings.Replace(good, `"source":"yfinance"`, `"source":"`+provider+`"`, 1), ce()...))
			}
			require.Equal(t, lines, strings.Count(out.String(), "late="), out.String())
		})
	}
}
