package ingress_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/stretchr/testify/require"

	"marketdata/shared/fault"
	"marketdata/shared/ingress"
)

// FuzzDecode sends any headers, one "name: value" a line, and any body. A request is undecodable, or an event with an id and a type that
// another hop can pass on unchanged.
func FuzzDecode(f *testing.F) {
	f.Add("Ce-Specversion: 1.0\nCe-Id: 1\nCe-Source: /s\nCe-Type: t\nCe-Subject: AAPL\nCe-Correction: 1", []byte("{}"))
	f.Add("Content-Type: application/cloudevents+json", []byte(`{"specversion":"1.0","id":"1","source":"/s","type":"t","n":1,"data":{"a":1}}`))
	f.Add("Content-Type: application/cloudevents+json", []byte(`{"specversion":"0.3","id":" ","source":"%","type":"\u0000","data_base64":"AAA="}`))
	f.Add("X-Topic: t\nX-Kafka-Partition: 0\nX-Kafka-Offset: 1\nX-Kafka-Key: k\nX-Kafka-Ce_id: 1\nX-Kafka-Content-Type: text/plain", []byte("x"))
	f.Add("X-Topic: t\nX-Kafka-Content-Type: application/cloudevents+json", []byte(`{"specversion":"1.0","id":"1","source":"/s","type":"t","data":"x"}`))
	f.Add("X-Topic: cron-function", []byte(nil))
	f.Add("Content-Type: application/cloudevents+json", []byte(strings.Repeat(`{"data":`, 100_000)))
	f.Add("Content-Type: application/cloudevents+json", []byte(`{"specversion":"1.0","id":"1","id":"2","source":"/s","type":"t","data":[1],"data":[2]}`))
	f.Fuzz(func(t *testing.T, head string, body []byte) {
		h := http.Header{}
		for line := range strings.SplitSeq(head, "\n") {
			if name, value, found := strings.Cut(line, ":"); found {
				h.Add(name, strings.TrimSpace(value)) // as net/http does
			}
		}
		e, err := ingress.Decode(h, body)
		if err != nil {
			require.Equal(t, fault.CodeUndecodable, fault.CodeOf(err))
			require.True(t, fault.Permanent(err))
			require.Nil(t, e.Context)
			return
		}
		require.NotEmpty(t, e.ID())
		require.NotEmpty(t, e.Type())
		require.LessOrEqual(t, len(e.Data()), len(body))
		again, err := ingress.Decode(binaryHeader(t, e), e.Data())
		require.NoError(t, err)
		requireSame(t, e, again)
	})
}

// binaryHeader returns the headers of an event in binary mode.
func binaryHeader(t *testing.T, e event.Event) http.Header {
	t.Helper()
	h := http.Header{"Ce-Specversion": {e.SpecVersion()}, "Ce-Id": {e.ID()}, "Ce-Source": {e.Source()}, "Ce-Type": {e.Type()}}
	if e.Source() == "" {
		h.Set("Ce-Source", "%") // no URI, and so left out again
	}
	if e.Subject() != "" {
		h.Set("Ce-Subject", e.Subject())
	}
	if e.DataContentType() != "" {
		h.Set("Content-Type", e.DataContentType())
	}
	for name := range e.Extensions() {
		require.Regexp(t, "^[a-z0-9]+$", name)
		h.Set("Ce-"+name, e.Extensions()[name].(string)) //nolint:forcetypeassert // they all are
	}
	return h
}

func requireSame(t *testing.T, want, got event.Event) {
	t.Helper()
	require.Equal(t, want.ID(), got.ID())
	require.Equal(t, want.Source(), got.Source())
	require.Equal(t, want.Type(), got.Type())
	require.Equal(t, want.Subject(), got.Subject())
	require.Equal(t, want.DataContentType(), got.DataContentType())
	require.Len(t, got.Extensions(), len(want.Extensions()))
	for name, value := range want.Extensions() {
		require.Equal(t, value, got.Extensions()[name], name)
	}
	require.Equal(t, string(want.Data()), string(got.Data()))
}

// FuzzEventsOfTheSDK decodes events that the SDK accepts, in both modes; in structured mode as the SDK encodes them.
func FuzzEventsOfTheSDK(f *testing.F) {
	f.Add("1", "/s", "t", "AAPL", "text/plain", "v", []byte("x"))
	f.Add("a b", "http://h/%41?q#f", "ü", "", "application/json", "", []byte(`{"a":1.10}`))
	f.Add("1", "s", "t", "\\\"\t", "application/octet-stream", "1", []byte{0, 0xff})
	f.Fuzz(func(t *testing.T, id, source, eventType, subject, contentType, extension string, data []byte) {
		e := event.New()
		e.SetID(id)
		e.SetSource(source)
		e.SetType(eventType)
		e.SetSubject(subject)
		if extension != "" {
			e.SetExtension("ext", extension)
		}
		if e.SetData(contentType, data) != nil || e.Validate() != nil || strings.TrimSpace(contentType) != contentType {
			return
		}
		for _, text := range []string{id, source, eventType, subject, contentType, extension} {
			if strings.TrimSpace(text) != text || strings.ContainsFunc(text, func(c rune) bool { return c < ' ' || c == 0x7f || c == utf8.RuneError }) {
				return // no header has such a value
			}
		}
		got, err := ingress.Decode(binaryHeader(t, e), e.Data())
		require.NoError(t, err)
		requireSame(t, e, got)
		isJSON := strings.Contains(strings.ToLower(contentType), "json")
		body, err := json.Marshal(e)
		if err != nil || isJSON && !json.Valid(data) {
			return // the data are not of the content type
		}
		got, err = ingress.Decode(http.Header{"Content-Type": {"application/cloudevents+json"}}, body)
		require.NoError(t, err, "%s", body)
		if isJSON {
			require.JSONEq(t, string(e.Data()), string(got.Data()))
			e.DataEncoded = got.Data()
		}
		requireSame(t, e, got)
	})
}
