package kafkasource

import (
	"bytes"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"marketdata/shared/fault"
	"marketdata/shared/ingress"
)

// A function gets the same event from OpenFaaS' Kafka connector as from a KafkaSource.
func TestOpenFaaSDeliversTheSameEvent(t *testing.T) {
	t.Parallel()
	const price, envelope = `{"symbol": "AAPL", "price": 1.10}`, `{"specversion":"1.0","id":"1","source":"/s","type":"t","correction":2,`
	event := func(more ...string) []Header {
		return append(headers("ce_specversion", "1.0", "ce_id", "1", "ce_source", "/s", "ce_type", "t"), headers(more...)...)
	}
	structured := func(contentType string, more ...string) []Header {
		return headers(append([]string{"content-type", contentType}, more...)...)
	}
	for name, c := range map[string]struct {
		headers []Header
		key     string
		value   string
		id      string // empty: that of a plain record
	}{
		"CloudEvent":                {event("ce_correction", "2", "ce_subject", "AAPL", "content-type", "application/json"), "AAPL", price, "1"},
		"partition key":             {event("ce_partitionkey", "AAPL"), "other", price, "1"},
		"time":                      {event("ce_time", "2024-03-20T10:30:00Z"), "", price, "1"},
		"version 0.3":               {event("ce_specversion", "0.3"), "", price, "1"},
		"foreign type":              {event("ce_type", "com.example.order"), "", price, "1"},
		"names in capitals":         {event("ce_Correction", "2"), "", price, "1"},
		"repeated header":           {event("ce_correction", "1", "ce_correction", "2", "ce_id", "2"), "", price, "2"},
		"place of another record":   {event("ce_kafkatopic", "old", "ce_knativekafkapartition", "7", "ce_knativekafkaoffset", "8"), "", price, "1"},
		"replay":                    {event("ce_replayid", "r", "ce_replaycount", "1"), "", price, "1"},
		"attributes of another use": {event("ce_data", "x", "ce_datacontenttype", "text/x", "ce_dataschema", "/x"), "", price, "1"},
		"no name":                   {event("ce_", "x"), "AAPL", price, "1"},
		"no data":                   {event("ce_correction", "2"), "", "", "1"},
		"other headers":             {event("trace", "x", "x-kafka", "y"), "", price, "1"},

		"no version":           {headers("ce_id", "1", "ce_source", "/s", "ce_type", "t", "ce_correction", "2"), "AAPL", price, ""},
		"no id":                {headers("ce_specversion", "1.0", "ce_source", "/s", "ce_type", "t", "ce_correction", "2"), "AAPL", price, ""},
		"no source":            {headers("ce_specversion", "1.0", "ce_id", "1", "ce_type", "t", "ce_correction", "2"), "AAPL", price, ""},
		"no type":              {headers("ce_specversion", "1.0", "ce_id", "1", "ce_source", "/s", "ce_correction", "2"), "AAPL", price, ""},
		"invalid version":      {event("ce_specversion", "2.0"), "AAPL", price, ""},
		"invalid time":         {event("ce_time", "yesterday"), "AAPL", price, ""},
		"invalid name":         {event("ce_a-b", "x"), "AAPL", price, ""},
		"another format":       {event("content-type", "application/cloudevents+avro"), "AAPL", price, ""},
		"a batch":              {event("content-type", "application/cloudevents-batch+json"), "AAPL", price, ""},
		"plain":                {headers("X-My_Header", "v1", "xmyheader", "v2", "content-TYPE", "Text/PLAIN; Charset=X"), "AAPL", price, ""},
		"binary key":           {nil, "\x00\xff", price, ""},
		"no key and no header": {nil, "", price, ""},
		"tombstone":            {nil, "AAPL", "", ""},

		"structured":                         {structured("application/cloudevents+json"), "AAPL", envelope + `"data":` + price + `}`, "1"},
		"structured with a charset":          {structured("application/cloudevents+json; charset=utf-8"), "", envelope + `"subject":"A","data":` + price + `}`, "1"},
		"structured with attributes beside":  {structured("application/cloudevents+json", "ce_specversion", "1.0", "ce_id", "9", "ce_source", "/x", "ce_type", "u"), "", envelope + `"data":` + price + `}`, "1"},
		"structured with text":               {structured("application/cloudevents+json"), "", envelope + `"datacontenttype":"text/plain","data":"ab"}`, "1"},
		"structured with bytes":              {structured("application/cloudevents+json"), "", envelope + `"datacontenttype":"a/b","data_base64":"AP8="}`, "1"},
		"structured without data":            {structured("application/cloudevents+json"), "", envelope + `"subject":"A"}`, "1"},
		"structured, no id":                  {structured("application/cloudevents+json"), "AAPL", `{"specversion":"1.0","source":"/s","type":"t","data":` + price + `}`, ""},
		"structured, invalid version":        {structured("application/cloudevents+json"), "AAPL", strings.Replace(envelope, "1.0", "2.0", 1) + `"data":` + price + `}`, ""},
		"structured, not an envelope":        {structured("application/cloudevents+json"), "AAPL", price, ""},
		"binary that says it is structured":  {event("content-type", "application/cloudevents+json"), "AAPL", price, ""},
		"structured with capitals, by value": {structured("Application/CloudEvents+JSON"), "", envelope + `"datacontenttype":"a/json","data":` + price + `}`, "1"},
		"binary, content type with capitals": {event("content-type", "Application/CloudEvents+JSON"), "", price, "1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := recordOf([]byte(c.value), c.headers)
			r.Key = []byte(c.key)
			ev := FromRecord(r, spec)
			knative := deliver(t, requestHeader(ev, spec.Namespace), ev.Data)
			openfaas := deliver(t, connectorHeader(r), r.Value)

			want, got := knative.Event, openfaas.Event
			require.Equal(t, want.SpecVersion(), got.SpecVersion())
			require.Equal(t, want.ID(), got.ID())
			require.Equal(t, want.Type(), got.Type())
			require.Equal(t, want.Subject(), got.Subject())
			require.Equal(t, want.DataContentType(), got.DataContentType())
			if c.id == "" {
				require.Equal(t, "partition:3/offset:42", got.ID())
				require.Equal(t, "/openfaas/kafka-connector#prices", got.Source(), "the only difference: there is no KafkaSource")
			} else {
				require.Equal(t, c.id, got.ID())
				require.Equal(t, want.Source(), got.Source())
			}
			for name := range merge(want.Extensions(), got.Extensions()) {
				require.Equal(t, knative.Extension(name), openfaas.Extension(name), name)
			}
			if want.DataContentType() == "application/json" && strings.HasPrefix(c.value, envelope) {
				require.JSONEq(t, string(want.Data()), string(got.Data()), "a KafkaSource encodes JSON of structured events again")
			} else {
				require.Equal(t, string(want.Data()), string(got.Data()))
			}
			require.True(t, knative.FromTopic())
			require.True(t, openfaas.FromTopic())
			require.False(t, knative.StatusIgnored)
			require.True(t, openfaas.StatusIgnored)
		})
	}
}

// An empty id is an id for a KafkaSource, so the function refuses the event. From OpenFaaS the same record is a plain one.
func TestEmptyIDIsTheOneDifferenceToOpenFaaS(t *testing.T) {
	t.Parallel()
	r := recordOf([]byte("{}"), headers("ce_specversion", "1.0", "ce_id", "", "ce_source", "/s", "ce_type", "t"))
	require.Equal(t, "partition:3/offset:42", deliver(t, connectorHeader(r), r.Value).Event.ID())
	ev := FromRecord(r, spec)
	_, err := ingress.Decode(requestHeader(ev, spec.Namespace), ev.Data)
	require.Equal(t, fault.CodeUndecodable, fault.CodeOf(err))
}

// A record may not say that it is a tick, whatever the platform.
func TestARecordIsNoTickOnEitherPlatform(t *testing.T) {
	t.Parallel()
	r := recordOf([]byte("{}"), headers("ce_specversion", "1.0", "ce_id", "1", "ce_source", "/s", "ce_type", "dev.knative.sources.ping"))
	ev := FromRecord(r, spec)
	require.False(t, deliver(t, requestHeader(ev, spec.Namespace), ev.Data).IsTick())
	require.False(t, deliver(t, connectorHeader(r), r.Value).IsTick())
}

func merge(a, b map[string]any) map[string]any {
	all := map[string]any{}
	for _, m := range []map[string]any{a, b} {
		for name, value := range m {
			all[name] = value
		}
	}
	return all
}

// deliver reads a request with these headers as a function does.
func deliver(t *testing.T, header http.Header, body []byte) ingress.Delivery {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(body))
	for name, values := range header {
		for _, value := range values {
			r.Header.Add(name, value) // in canonical form, as the server reads it
		}
	}
	d, err := ingress.Read(r, 1<<20)
	require.NoError(t, err)
	return d
}

// connectorHeader returns the headers of OpenFaaS' Kafka connector. It sends the content type of its own configuration; the record's is
// one of the record's headers.
func connectorHeader(r Record) http.Header {
	h := http.Header{}
	for name, value := range map[string]string{
		"Content-Type": "text/plain", "X-Connector": "connector-sdk kafka-connector", "X-Topic": r.Topic,
		"X-Kafka-Partition": strconv.Itoa(int(r.Partition)), "X-Kafka-Offset": strconv.FormatInt(r.Offset, 10),
	} {
		h.Set(name, value)
	}
	switch {
	case len(r.Key) == 0:
	case utf8.Valid(r.Key):
		h.Set("X-Kafka-Key", string(r.Key))
	default:
		h.Set("X-Kafka-Key", base64.StdEncoding.EncodeToString(r.Key))
		h.Set("X-Kafka-Key-Enc", "b64")
	}
	for _, header := range r.Headers {
		h["X-Kafka-"+header.Name] = append(h["X-Kafka-"+header.Name], string(header.Value))
	}
	return h
}
