package pingsource

import (
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

// The complete request of a tick, as the function gets it.
func TestRequest(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spec Spec
		want http.Header
		body string
	}{
		"JSON": {
			spec: Spec{ContentType: "application/json", Data: []byte("{ }"), Extensions: map[string]string{"x": "y"}},
			want: http.Header{"Content-Length": {"3"}, "Content-Type": {"application/json"}, "Ce-X": {"y"}}, body: "{ }",
		},
		"bytes":        {spec: Spec{Data: []byte("\x00\xff")}, want: http.Header{"Content-Length": {"2"}}, body: "\x00\xff"},
		"without data": {spec: Spec{ContentType: "application/json"}, want: http.Header{"Content-Length": {"0"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, bodies := make(chan *http.Request, 16), make(chan string, 16)
			server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				got <- r
				bodies <- string(body)
			}))
			defer server.Close()
			c.spec.Name, c.spec.Namespace, c.spec.Schedule, c.spec.Sink = "tick", "ns", "* * * * * *", server.URL+"/a"
			s, err := Start(c.spec, slog.New(slog.DiscardHandler))
			require.NoError(t, err)
			defer s.Close()
			r := <-got
			require.Equal(t, "POST /a", r.Method+" "+r.RequestURI)
			require.Equal(t, c.body, <-bodies)
			id, err := uuid.Parse(r.Header.Get("Ce-Id"))
			require.NoError(t, err)
			require.EqualValues(t, 4, id.Version())
			at, err := time.Parse(time.RFC3339Nano, r.Header.Get("Ce-Time"))
			require.NoError(t, err)
			require.WithinDuration(t, time.Now(), at, time.Minute)
			want := http.Header{
				"User-Agent": {"Go-http-client/1.1"}, "Accept-Encoding": {"gzip"}, "Kn-Namespace": {"ns"}, "Ce-Specversion": {"1.0"},
				"Ce-Type": {"dev.knative.sources.ping"}, "Ce-Source": {"/apis/v1/namespaces/ns/pingsources/tick"},
				"Ce-Id": r.Header["Ce-Id"], "Ce-Time": r.Header["Ce-Time"],
			}
			maps.Copy(want, c.want)
			require.Equal(t, want, r.Header)
		})
	}
}

// answering is a sink that answers with one status, and records when each request came and its id.
type answering struct {
	status int
	times  []time.Time
	ids    []string
}

func (a *answering) RoundTrip(r *http.Request) (*http.Response, error) {
	a.times, a.ids = append(a.times, time.Now()), append(a.ids, r.Header.Get("Ce-Id"))
	if a.status == 0 {
		return nil, io.ErrUnexpectedEOF
	}
	return &http.Response{StatusCode: a.status, Body: http.NoBody}, nil
}

// run lets a source tick every minute for a time, and returns when its requests came, after the first of its minute.
func run(t *testing.T, status int, seed uint64, name string, d time.Duration) (waits []time.Duration, ids map[string]bool) {
	t.Helper()
	sink := &answering{status: status}
	synctest.Test(t, func(t *testing.T) {
		s, err := start(Spec{Name: name, Schedule: "* * * * *", JitterSeed: seed}, slog.New(slog.DiscardHandler), &http.Client{Transport: sink})
		require.NoError(t, err)
		time.Sleep(d) // on the clock of the bubble
		s.Close()
	})
	ids = map[string]bool{}
	for i, at := range sink.times {
		waits = append(waits, at.Sub(at.Truncate(time.Minute)))
		ids[sink.ids[i]] = true
	}
	return waits, ids
}

func TestRetries(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	ladder := []time.Duration{0, 100 * ms, 300 * ms, 700 * ms, 1500 * ms, 3100 * ms} // after 100, 200, 400, 800 and 1600 ms
	for status, want := range map[int][]time.Duration{
		0: ladder, 404: ladder, 413: ladder, 425: ladder, 429: ladder, 502: ladder, 503: ladder, 504: ladder,
		200: {0}, 202: {0}, 204: {0}, 300: {0}, 400: {0}, 401: {0}, 408: {0}, 409: {0}, 422: {0}, 500: {0}, 501: {0},
	} {
		waits, ids := run(t, status, 0, "tick", 90*time.Second)
		require.Equal(t, want, waits, "%d", status)
		require.Len(t, ids, 1, "%d: a retry has the id of its tick", status)
	}
}

func TestJitterIsThatOfItsSeed(t *testing.T) {
	t.Parallel()
	first, ids := run(t, 204, 1, "tick", 100*time.Minute)
	require.Len(t, ids, len(first), "each tick has its own id")
	again, _ := run(t, 204, 1, "tick", 100*time.Minute)
	require.Equal(t, first, again)
	for name, c := range map[string]struct {
		seed   uint64
		source string
	}{"another seed": {2, "tick"}, "another source": {1, "tock"}} {
		other, _ := run(t, 204, c.seed, c.source, 100*time.Minute)
		require.NotEqual(t, first, other, name)
	}
	distinct := map[time.Duration]bool{}
	for _, wait := range first {
		require.Less(t, wait, 500*time.Millisecond)
		distinct[wait] = true
	}
	require.Greater(t, len(distinct), 50)
	none, _ := run(t, 204, 0, "tick", 100*time.Minute)
	require.Equal(t, make([]time.Duration, len(none)), none)
}

// never is a sink that gets no requests.
type never struct{}

func (never) RoundTrip(*http.Request) (*http.Response, error) { panic("a tick") }

// A cluster accepts a schedule that never comes, such as a 30 February, and it never ticks there either.
func TestAScheduleThatNeverComes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, err := start(Spec{Name: "tick", Schedule: "0 0 30 2 *"}, slog.New(slog.DiscardHandler), &http.Client{Transport: never{}})
		require.NoError(t, err)
		time.Sleep(24 * time.Hour)
		s.Close()
	})
}
