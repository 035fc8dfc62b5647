package main

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"marketdata/shared/fault"
	"marketdata/shared/priceevent"
)

// FuzzEvent sends anything: each input ends committed or in the dead letter topic byte for byte, in one of the forms that
// operators know, and is acknowledged. The record of a dead letter holds whatever the request held.
func FuzzEvent(f *testing.F) {
	for _, seed := range []struct{ body, eventType, contentType, correction, topic string }{
		{good, priceevent.Type, "application/json", "", ""},
		{good, "dev.knative.kafka.event", "", "2", ""},
		{"", priceevent.Type, "", "", ""},
		{"\x00\xff", priceevent.Type, "application/json", "-1", ""},
		{good, "", "text/plain", "", "price-events"},
		{`{"specversion":"1.0","id":"1","source":"/s","type":"` + priceevent.Type + `","data":` + good + `}`, "", "application/cloudevents+json", "", ""},
		{`{"specversion":"1.0","id":"1","source":"/s","type":"t","data_base64":"AAA="}`, "", "application/cloudevents+json; charset=utf-8", "", ""},
		{"[]", "", "application/cloudevents-batch+json", "", ""},
		{good, "\xff\x01", "\x00", "99999999999", "t"},
	} {
		f.Add([]byte(seed.body), seed.eventType, seed.contentType, seed.correction, seed.topic)
	}
	b := setup(f)
	f.Fuzz(func(t *testing.T, body []byte, eventType, contentType, correction, topic string) {
		b.store.applied, b.dlq.letters = nil, nil
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(string(body)))
		for name, value := range map[string]string{
			"Ce-Type": eventType, "Content-Type": contentType, "Ce-Correction": correction, "X-Topic": topic, "Ce-Key": contentType + topic,
		} {
			if value != "" {
				r.Header.Set(name, value)
			}
		}
		if eventType != "" {
			r.Header.Set("Ce-Specversion", "1.0")
			r.Header.Set("Ce-Id", "1")
			r.Header.Set("Ce-Source", "/s")
		}
		w := httptest.NewRecorder()
		b.http.ServeHTTP(w, r)
		require.Equal(t, http.StatusNoContent, w.Code, w.Body.String())
		require.Equal(t, 1, len(b.store.applied)+len(b.dlq.letters))
		if len(b.store.applied) == 1 {
			require.NoError(t, b.store.applied[0].Validate(b.now()))
			return
		}
		letter := b.dlq.letters[0]
		_, known := priceevent.Explain(fault.CodeOf(letter.Err))
		require.True(t, known, fault.CodeOf(letter.Err))
		record := letter.Record("dlq")
		require.Equal(t, string(body), string(record.Value))
		var names []string
		for _, h := range record.Headers {
			names = append(names, h.Name)
			if h.Name == "ce_type" {
				require.Equal(t, eventType, string(h.Value))
			}
		}
		require.True(t, slices.Contains(names, "dlq-code") && slices.Contains(names, "dlq-failed-at"))
	})
}
