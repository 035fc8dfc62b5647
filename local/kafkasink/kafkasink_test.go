package kafkasink_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"marketdata/local/kafkasink"
	"marketdata/shared/kafkaclient"
)

type producer struct {
	records []kafkaclient.Record
	err     error
}

func (p *producer) Produce(_ context.Context, r kafkaclient.Record) error {
	p.records = append(p.records, r)
	return p.err
}

func send(p *producer, method, body string, header map[string]string) int {
	w := httptest.NewRecorder()
	r := httptest.NewRequest(method, "/", strings.NewReader(body))
	for name, value := range header {
		r.Header.Set(name, value)
	}
	kafkasink.Sink{Producer: p, Topic: "dlq", Log: slog.New(slog.DiscardHandler)}.ServeHTTP(w, r)
	return w.Code
}

func attributes(extra ...string) map[string]string {
	h := map[string]string{"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "t"}
	for i := 0; i < len(extra); i += 2 {
		h[extra[i]] = extra[i+1]
	}
	return h
}

func TestBytesAreUnchanged(t *testing.T) {
	t.Parallel()
	p := &producer{}
	body := "\x00\xff not json"
	require.Equal(t, http.StatusAccepted, send(p, http.MethodPost, body,
		attributes("ce-partitionkey", "AAPL", "ce-knativeerrorcode", "503", "content-type", "application/octet-stream")))
	require.Len(t, p.records, 1)
	r := p.records[0]
	require.Equal(t, "dlq", r.Topic)
	require.Equal(t, "AAPL", string(r.Key))
	require.Equal(t, body, string(r.Value))
	got := map[string]string{}
	for _, h := range r.Headers {
		got[h.Name] = string(h.Value)
	}
	require.Equal(t, map[string]string{
		"ce_specversion": "1.0", "ce_id": "1", "ce_source": "/s", "ce_type": "t", "ce_partitionkey": "AAPL",
		"ce_knativeerrorcode": "503", "content-type": "application/octet-stream",
	}, got)
}

func TestEventWithoutDataIsANullValue(t *testing.T) {
	t.Parallel()
	p := &producer{}
	require.Equal(t, http.StatusAccepted, send(p, http.MethodPost, "", attributes()))
	require.Nil(t, p.records[0].Value)
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		method, body string
		header       map[string]string
		err          error
		want         int
	}{
		"acknowledged":     {http.MethodPost, "x", attributes(), nil, http.StatusAccepted},
		"another method":   {http.MethodGet, "", attributes(), nil, http.StatusMethodNotAllowed},
		"not a CloudEvent": {http.MethodPost, "{}", map[string]string{"content-type": "application/json"}, nil, http.StatusBadRequest},
		"half a one":       {http.MethodPost, "", map[string]string{"ce-specversion": "1.0"}, nil, http.StatusBadRequest},
		"not produced":     {http.MethodPost, "x", attributes(), errors.New("away"), http.StatusServiceUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.want, send(&producer{err: c.err}, c.method, c.body, c.header))
		})
	}
}

// An event must not be lost because of attributes that a CloudEvents library would refuse.
func TestInvalidAttributesAreUnchanged(t *testing.T) {
	t.Parallel()
	p := &producer{}
	require.Equal(t, http.StatusAccepted, send(p, http.MethodPost, "x", attributes("ce-time", "+58877-08-06T12:33:20Z", "ce-source", "%zz", "ce-a_b", "x")))
	got := map[string]string{}
	for _, h := range p.records[0].Headers {
		got[h.Name] = string(h.Value)
	}
	require.Equal(t, "+58877-08-06T12:33:20Z", got["ce_time"])
	require.Equal(t, "%zz", got["ce_source"])
	require.Equal(t, "x", got["ce_a_b"])
}

func TestStructuredEventIsWrittenInBinaryMode(t *testing.T) {
	t.Parallel()
	p := &producer{}
	body := `{"specversion":"1.0","id":"1","source":"/s","type":"t","partitionkey":"AAPL","data":{"a":1.10}}`
	require.Equal(t, http.StatusAccepted, send(p, http.MethodPost, body, map[string]string{"content-type": "application/cloudevents+json"}))
	require.Equal(t, `{"a":1.10}`, string(p.records[0].Value))
	require.Equal(t, "AAPL", string(p.records[0].Key))
}

// max.request.size of the sink's producer, as on a cluster.
func TestEventAboveOneMebibyteIsRefused(t *testing.T) {
	t.Parallel()
	p := &producer{}
	require.Equal(t, http.StatusAccepted, send(p, http.MethodPost, strings.Repeat("x", 1<<20-1000), attributes()))
	for _, size := range []int{1<<20 - 10, 1 << 20, 3 << 20} {
		require.Equal(t, http.StatusServiceUnavailable, send(p, http.MethodPost, strings.Repeat("x", size), attributes()))
	}
	require.Equal(t, http.StatusServiceUnavailable, send(p, http.MethodPost, "x", attributes("ce-big", strings.Repeat("x", 1<<20))))
	require.Len(t, p.records, 1)
}
