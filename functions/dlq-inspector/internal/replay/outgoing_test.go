package replay

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"marketdata/functions/dlq-inspector/internal/letter"
	"marketdata/functions/dlq-inspector/internal/lettertest"
	"marketdata/shared/ingress"
	"marketdata/shared/kafkaclient"
	"marketdata/shared/testenv/collector"
)

func TestOutgoingHeaders(t *testing.T) {
	t.Parallel()
	id := uuid.MustParse("0190f5d8-0000-7000-8000-000000000001")
	at := &kafkaclient.Place{Topic: "price-events", Partition: 3, Offset: 9}
	long := strings.Repeat("x", 6000)
	cases := map[string]struct {
		letter letter.Stored
		want   map[string]string // header -> value; empty: it is not sent
	}{
		"an event keeps what it carried": {
			letter.Stored{Attributes: lettertest.Event("time", "2024-01-01T00:00:00Z", "subject", "AAPL", "correction", "2", "partitionkey", "a b%20"), ContentType: "application/json"},
			map[string]string{
				"Ce-Id": "e1", "Ce-Source": "/providers/x", "Ce-Time": "2024-01-01T00:00:00Z", "Ce-Subject": "AAPL", "Ce-Correction": "2", "Ce-Partitionkey": "a b%20",
				"Ce-Replaycount": "1", "Content-Type": "application/json",
			},
		},
		"a plain record": {
			letter.Stored{Origin: at},
			map[string]string{"Ce-Specversion": "1.0", "Ce-Type": "dev.knative.kafka.event", "Ce-Id": "partition:3/offset:9", "Ce-Source": "/topics/price-events", "Content-Type": ""},
		},
		"a letter that nobody knows the place of": {letter.Stored{ID: id}, map[string]string{"Ce-Id": "letter:" + id.String(), "Ce-Source": "/dlq-inspector"}},
		"names that are none": {
			letter.Stored{Attributes: lettertest.Event("trace id", "7", "a/b", "7", "ü", "7", "", "7", "UPPER", "7", "a-b", "7", "good", "7")},
			map[string]string{"Ce-Trace Id": "", "Ce-A/B": "", "Ce-Ü": "", "Ce-": "", "Ce-Upper": "", "Ce-A-B": "", "Ce-Good": "7"},
		},
		"values that no header has": {
			letter.Stored{Attributes: lettertest.Event("a", "é\n", "b", " x ", "c", "\x00", "d", "")},
			map[string]string{"Ce-A": "%C3%A9%0A", "Ce-B": "%20x%20", "Ce-C": "%00", "Ce-D": ""},
		},
		"a time of the year 58877":    {letter.Stored{Attributes: lettertest.Event("time", "58877-01-01T00:00:00Z")}, map[string]string{"Ce-Time": "", "Ce-Id": "e1"}},
		"no time at all":              {letter.Stored{Attributes: lettertest.Event("time", "yesterday")}, map[string]string{"Ce-Time": ""}},
		"a source that is no URI":     {letter.Stored{ID: id, Attributes: lettertest.Event("source", "%zz")}, map[string]string{"Ce-Source": "/dlq-inspector", "Ce-Id": "e1"}},
		"an empty id":                 {letter.Stored{ID: id, Attributes: lettertest.Event("id", "")}, map[string]string{"Ce-Id": "letter:" + id.String(), "Ce-Source": "/providers/x"}},
		"a long id":                   {letter.Stored{Attributes: lettertest.Event("id", long)}, map[string]string{"Ce-Id": long}},
		"an id beyond all headers":    {letter.Stored{ID: id, Attributes: lettertest.Event("id", strings.Repeat(long, 20))}, map[string]string{"Ce-Id": "letter:" + id.String()}},
		"an unknown version":          {letter.Stored{ID: id, Attributes: lettertest.Event("specversion", "9")}, map[string]string{"Ce-Specversion": "1.0", "Ce-Type": "dev.knative.kafka.event"}},
		"what tells of a delivery":    {letter.Stored{Attributes: lettertest.Event("knativekafkaoffset", "1", "kafkatopic", "x", "replayid", "x")}, map[string]string{"Ce-Knativekafkaoffset": "", "Ce-Kafkatopic": ""}},
		"a content type that is none": {letter.Stored{Attributes: lettertest.Event(), ContentType: "a\nb"}, map[string]string{"Content-Type": ""}},
		"an envelope goes as it is": {
			letter.Stored{Attributes: lettertest.Event(), ContentType: "application/cloudevents+json", Value: []byte(`{"specversion":"1.0","id":"1","source":"/s","type":"t"}`)},
			map[string]string{"Content-Type": "application/cloudevents+json", "Ce-Id": "", "Ce-Type": ""},
		},
		"what is no envelope goes as it came": {
			letter.Stored{Attributes: lettertest.Event(), ContentType: "application/cloudevents+json", Value: lettertest.GoodEvent},
			map[string]string{"Content-Type": "application/cloudevents+json", "Ce-Id": "e1"},
		},
		"a topic of no topic's length": {letter.Stored{ID: id, Origin: &kafkaclient.Place{Topic: long}}, map[string]string{"Ce-Source": "/dlq-inspector"}},
		"a topic that is no name":      {letter.Stored{Origin: &kafkaclient.Place{Topic: "a b\n%"}}, map[string]string{"Ce-Source": "/topics/a%20b%0A%25"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, _ := outgoing(c.letter, id, nil)
			require.Equal(t, id.String(), h.Get("Ce-Replayid"))
			for header, value := range c.want {
				require.Equal(t, value, strings.Join(h[http.CanonicalHeaderKey(header)], "|"), header)
			}
		})
	}
}

// Only an edited replay carries a correction of its own.
func TestOutgoingCorrection(t *testing.T) {
	t.Parallel()
	l := letter.Stored{State: letter.State{Correction: 5}, Attributes: lettertest.Event(), Value: lettertest.GoodEvent}
	h, _ := outgoing(l, uuid.New(), nil)
	require.Empty(t, h["Ce-Correction"], "an earlier edited replay does not matter")
	h, value := outgoing(l, uuid.New(), &edit{value: []byte("{}")})
	require.Equal(t, "5", h.Get("Ce-Correction"))
	require.Equal(t, "application/json", h.Get("Content-Type"))
	require.Equal(t, "{}", string(value))
}

func TestReadEdit(t *testing.T) {
	t.Parallel()
	now := time.Now()
	by, err := readEdit(lettertest.GoodEvent, now)
	require.NoError(t, err)
	require.Equal(t, lettertest.GoodEvent, by.value)
	envelope := fmt.Appendf(nil, `{"specversion":"1.0","id":"1","source":"/s","type":"t","trace":"7","time":"2024-01-01T00:00:00Z","data":%s}`, lettertest.GoodEvent)
	by, err = readEdit(envelope, now)
	require.NoError(t, err)
	require.Equal(t, string(lettertest.GoodEvent), string(by.value), "every digit")
	require.Equal(t, envelope, by.written)
	require.Equal(t, "7", by.attributes["trace"])
	for _, bad := range []string{"", "{", "{}", "[]", "null", `{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{}}`, `{"specversion":"1.0","data":{}}`} {
		t.Run(bad, func(t *testing.T) {
			t.Parallel()
			_, err := readEdit([]byte(bad), now)
			require.Error(t, err)
		})
	}
}

// With any metadata, the request of a letter reaches the function and is an event there.
func TestAnyMetadataIsDelivered(t *testing.T) {
	t.Parallel()
	var got ingress.Delivery
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d, err := ingress.Read(r, 1<<20)
		if got = d; err != nil {
			w.WriteHeader(http.StatusUnprocessableEntity)
			_, _ = io.WriteString(w, err.Error())
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(server.Close)
	client := NewClient()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	names := []string{"specversion", "id", "source", "type", "time", "subject", "dataschema", "datacontenttype", "correction", "trace id", "a/b", "é", "", "\x00", "x", "data", "partitionkey"}
	values := []string{"", " ", "1.0", "0.3", "\x00", "é", "a\r\nb: c", "%", "%zz", ":", "http://[::1", "2024-01-01T00:00:00Z", "+58877-01-01T00:00:00Z", strings.Repeat("é", 20000), strings.Repeat("x", 60000), "application/json", "\xff"}
	for range 500 {
		l := letter.Stored{ID: uuid.New(), Attributes: map[string]string{}, Value: lettertest.GoodEvent, ContentType: values[random.IntN(len(values))]}
		if random.IntN(2) == 0 {
			l.Attributes = lettertest.Event()
		}
		for range random.IntN(6) {
			l.Attributes[names[random.IntN(len(names))]] = values[random.IntN(len(values))]
		}
		if random.IntN(2) == 0 {
			l.Origin = &kafkaclient.Place{Topic: values[random.IntN(len(values))]}
		}
		header, value := outgoing(l, l.ID, nil)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, bytes.NewReader(value))
		require.NoError(t, err)
		req.Header = header
		resp, err := client.Do(req)
		require.NoError(t, err, "%q", l.Attributes)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, http.StatusNoContent, resp.StatusCode, "%s: %.2000q", body, l.Attributes)
		require.Equal(t, lettertest.GoodEvent, got.Event.Data())
		require.Equal(t, l.ID.String(), got.Header.Get("Ce-Replayid"))
	}
}

// A replay continues the letter's trace, with tracing and without. A letter without a usable one has that of the request.
func TestAReplayContinuesTheLettersTrace(t *testing.T) {
	t.Parallel()
	const traceID = "4bf92f3577b34da6a3ce929d0e0e4736"
	const traceparent = "00-" + traceID + "-00f067aa0ba902b7-01"
	var got string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.Header.Get("Traceparent")
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(server.Close)
	r := New(Config{Function: server.URL, Client: server.Client()})
	deliver := func(ctx context.Context, header string) {
		l := letter.Stored{Attributes: lettertest.Event(), Headers: letter.HeadersOf([]kafkaclient.Header{{Name: "traceparent", Value: []byte(header)}})}
		require.Equal(t, letter.OutcomeResolved, r.deliver(ctx, l, uuid.New(), nil).Outcome)
	}
	deliver(t.Context(), traceparent)
	require.Equal(t, traceparent, got)
	deliver(t.Context(), "rubbish\n")
	require.Empty(t, got)

	ctx, spans := collector.Record(t.Context())
	deliver(ctx, traceparent)
	require.Len(t, spans(), 2)
	replay, post := spans()[1], spans()[0]
	require.Equal(t, "00-"+traceID+"-"+post.SpanContext.SpanID().String()+"-01", got)
	require.Equal(t, replay.SpanContext.SpanID(), post.Parent.SpanID())
	require.Equal(t, "00f067aa0ba902b7", replay.Parent.SpanID().String())
	require.Len(t, replay.Links, 1)
	deliver(ctx, "rubbish")
	require.Equal(t, replay.Links[0].SpanContext.TraceID(), spans()[3].SpanContext.TraceID())
}
