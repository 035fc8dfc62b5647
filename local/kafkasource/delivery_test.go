package kafkasource

import (
	"context"
	"encoding/base64"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	vm "github.com/VictoriaMetrics/metrics"
	"github.com/stretchr/testify/require"

	"marketdata/shared/testenv/collector"
)

// sink answers with the given statuses, repeating the last one, and records its requests.
type sink struct {
	mu       sync.Mutex
	statuses []int
	body     string
	kne      string
	got      []*http.Request
	bodies   []string
}

func (s *sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, _ := io.ReadAll(r.Body)
	s.got, s.bodies = append(s.got, r), append(s.bodies, string(b))
	status := s.statuses[0]
	if len(s.statuses) > 1 {
		s.statuses = s.statuses[1:]
	}
	if s.kne != "" {
		w.Header().Set("Kne-Reason", s.kne)
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, s.body)
}

func (s *sink) open(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return server.URL
}

// testSender returns a sender that records its waits instead of waiting.
func testSender(waits *[]time.Duration) *sender {
	s := newSender("ns", slog.New(slog.DiscardHandler), newMetrics(vm.NewSet(), "s"))
	s.sleep = func(_ context.Context, d time.Duration) error {
		*waits = append(*waits, d)
		return nil
	}
	return s
}

var ev = Event{Attributes: map[string]string{"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}, Data: []byte("data")}

func TestRetriesAndBackoff(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	for name, c := range map[string]struct {
		delivery Delivery
		want     []time.Duration
	}{
		"linear, delay·n":        {Delivery{Retry: 3, BackoffDelay: time.Second}, []time.Duration{time.Second, 2 * time.Second, 3 * time.Second}},
		"exponential, delay·2^n": {Delivery{Retry: 3, Exponential: true, BackoffDelay: 200 * ms}, []time.Duration{400 * ms, 800 * ms, 1600 * ms}},
		"the default": {Delivery{Retry: 10, Exponential: true, BackoffDelay: 300 * ms}, []time.Duration{
			600 * ms, 1200 * ms, 2400 * ms, 4800 * ms, 9600 * ms, 19200 * ms, 38400 * ms, 76800 * ms, 153600 * ms, 307200 * ms,
		}},
		"none": {Delivery{}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var waits []time.Duration
			target := &sink{statuses: []int{503}}
			c.delivery.Timeout = 5 * time.Second
			require.NoError(t, testSender(&waits).deliver(t.Context(), ev, target.open(t), c.delivery))
			require.Equal(t, c.want, waits)
			require.Len(t, target.got, c.delivery.Retry+1)
		})
	}
}

func TestStatuses(t *testing.T) {
	t.Parallel()
	for status, attempts := range map[int]int{
		200: 1, 202: 1, 204: 1, 299: 1,
		404: 2, 408: 2, 409: 2, 429: 2, 500: 2, 502: 2, 503: 2, 504: 2, 599: 2,
		300: 1, 302: 1, 400: 1, 401: 1, 403: 1, 405: 1, 410: 1, 413: 1, 415: 1, 422: 1, 425: 1,
	} {
		var waits []time.Duration
		target, dead := &sink{statuses: []int{status}}, &sink{statuses: []int{202}}
		d := Delivery{Retry: 1, Timeout: 5 * time.Second, DeadLetterSink: dead.open(t)}
		require.NoError(t, testSender(&waits).deliver(t.Context(), ev, target.open(t), d))
		require.Len(t, target.got, attempts, "%d", status)
		if status < 300 {
			require.Empty(t, dead.got, "%d", status)
		} else {
			require.Len(t, dead.got, 1, "%d", status)
		}
	}
}

func TestDeadLetter(t *testing.T) {
	t.Parallel()
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	for name, c := range map[string]struct {
		target  *sink // nil: none listens
		version string
		waits   int
		want    http.Header // what tells the dead letter from the event
	}{
		"a response": {
			target: &sink{statuses: []int{422}, body: strings.Repeat("x", 2000), kne: "bad"}, version: "1.0",
			want: http.Header{
				"Ce-Knativeerrorcode": {"422"}, "Ce-Knativeerrordata": {base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", 1024)))}, "Ce-Reason": {"bad"},
			},
		},
		"a response without a body": {target: &sink{statuses: []int{503}}, version: "1.0", waits: 2, want: http.Header{"Ce-Knativeerrorcode": {"503"}}},
		"no response":               {version: "1.0", waits: 2},
		"an event of version 0.3":   {target: &sink{statuses: []int{400}}, version: "0.3", want: http.Header{"Ce-Knativeerrorcode": {"400"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var waits []time.Duration
			url, dead := gone.URL, &sink{statuses: []int{202}}
			if c.target != nil {
				url = c.target.open(t)
			}
			failed := Event{Attributes: maps.Clone(ev.Attributes), Data: ev.Data, ContentType: "a/b"}
			failed.Attributes["specversion"] = c.version
			want := http.Header{
				"User-Agent": {"Vert.x-WebClient/4.5.14"}, "Prefer": {"reply"}, "Kn-Namespace": {"ns"}, "Content-Length": {"4"}, "Content-Type": {"a/b"},
				"Ce-Specversion": {"1.0"}, "Ce-Id": {"1"}, "Ce-Source": {"/s"}, "Ce-Type": {"t"}, "Ce-Knativeerrordest": {url},
			}
			maps.Copy(want, c.want)
			d := Delivery{Retry: 2, Timeout: 5 * time.Second, DeadLetterSink: dead.open(t)}
			require.NoError(t, testSender(&waits).deliver(t.Context(), failed, url, d))
			require.Len(t, waits, c.waits)
			require.Equal(t, want, dead.got[0].Header)
			require.Equal(t, "data", dead.bodies[0])
		})
	}
}

func TestStopCutsTheWaitShortAndKeepsTheRecord(t *testing.T) {
	t.Parallel()
	s := newSender("ns", slog.New(slog.DiscardHandler), newMetrics(vm.NewSet(), "s"))
	ctx, cancel := context.WithCancel(t.Context())
	target := &sink{statuses: []int{503}}
	s.sleep = func(ctx context.Context, d time.Duration) error { cancel(); return sleep(ctx, d) }
	require.Error(t, s.deliver(ctx, ev, target.open(t), Delivery{Retry: 5, BackoffDelay: time.Hour, Timeout: time.Second}))
	require.Len(t, target.got, 1)
}

func TestOffsetsCommitTheFirstPendingOne(t *testing.T) {
	t.Parallel()
	o, p := newOffsets(), partition{"t", 0}
	require.Nil(t, o.received(p, 5, time.Now()), "not assigned")
	o.assign(t.Context(), p)
	require.Empty(t, o.commitable())
	g := o.received(p, 5, time.Now())
	o.received(p, 6, time.Now())
	o.received(p, 9, time.Now()) // 7 and 8 are transaction markers
	require.Equal(t, map[partition]int64{p: 5}, o.commitable())
	o.committed(p, 5)
	o.done(g, 6)
	require.Empty(t, o.commitable())
	o.done(g, 5)
	require.Equal(t, map[partition]int64{p: 9}, o.commitable())
	o.committed(p, 9)
	o.done(g, 9)
	require.Equal(t, map[partition]int64{p: 10}, o.commitable())
	o.revoke(p)
	require.Error(t, g.ctx.Err(), "another consumer delivers the records that wait for a retry")
	require.Empty(t, o.commitable(), "another consumer has the partition")
	o.assign(t.Context(), p)
	o.done(g, 10) // a late result of the previous assignment
	require.Empty(t, o.commitable())
}

// One record fails for hours while millions overtake it.
func TestOffsetsKeepOnlyRecordsInFlight(t *testing.T) {
	t.Parallel()
	o, p := newOffsets(), partition{"t", 0}
	o.assign(t.Context(), p)
	o.received(p, 0, time.Now())
	for offset := range int64(1_000_000) {
		o.done(o.received(p, offset+1, time.Now()), offset+1)
	}
	require.Equal(t, map[partition]int64{}, o.commitable())
	require.Len(t, o.parts[p].pending, 1)
}

// A source is behind by what it has not done, and as late as the oldest of that.
func TestStatusOfASource(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o, p := newOffsets(), partition{"t", 0}
		o.assign(t.Context(), p)
		status, next := o.status(time.Now())
		require.Equal(t, Status{}, status)
		require.Empty(t, next, "it has received nothing")
		g := o.received(p, 5, time.Now().Add(-time.Second))
		o.received(p, 6, time.Now().Add(-3*time.Second))
		status, next = o.status(time.Now())
		require.Equal(t, Status{Waiting: 2, Delay: 3 * time.Second}, status)
		require.Equal(t, map[partition]int64{p: 7}, next)
		o.done(g, 6)
		o.done(g, 5)
		status, _ = o.status(time.Now().Add(time.Hour))
		require.Equal(t, Status{Delay: time.Second}, status, "of the last record, however long ago it was")
	})
}

// Each attempt has a span, which takes the place of the record's in the traceparent. Without tracing the record's passes.
func TestAttemptsHaveSpans(t *testing.T) {
	t.Parallel()
	const traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	target := &sink{statuses: []int{503, 200, 200}}
	url := target.open(t)
	var waits []time.Duration
	carried := ev
	carried.Traceparent = traceparent
	ctx, spans := collector.Record(t.Context())
	once := Delivery{Retry: 1, BackoffDelay: time.Second, Timeout: 5 * time.Second}
	require.NoError(t, testSender(&waits).deliver(ctx, carried, url, once))
	require.NoError(t, testSender(&waits).deliver(t.Context(), carried, url, once))
	require.Len(t, target.got, 3)
	require.Len(t, spans(), 2)
	for i, span := range spans() {
		require.Equal(t, "POST", span.Name)
		require.Equal(t, "00-"+span.SpanContext.TraceID().String()+"-"+span.SpanContext.SpanID().String()+"-01", target.got[i].Header.Get("Traceparent"))
	}
	require.Equal(t, "503", spans()[0].Status.Description)
	require.Empty(t, spans()[1].Status.Description)
	require.Equal(t, traceparent, target.got[2].Header.Get("Traceparent"))
}
