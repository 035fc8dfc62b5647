package letter

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"marketdata/shared/kafkaclient"
	"marketdata/shared/market"
)

// FuzzLetter makes a letter of any record: Postgres and JSON can hold all of it.
func FuzzLetter(f *testing.F) {
	f.Add([]byte("AAPL"), []byte(`{"symbol":"aapl"}`), "ce_subject", []byte("X"), "dlq-reason", []byte("a\x00\xff"), int64(1710930600000))
	f.Add([]byte(`{"payload":"A"}`), []byte(`{"schema":{},"payload":{"symbol":"B"}}`), "ce_type", []byte("dev.knative.kafka.event"), "ce_key", []byte("QUE="), int64(-1))
	f.Add([]byte(nil), []byte(`{"specversion":"1.0","id":"1","source":"/s","type":"t\u0000","data":{"symbol":"C"}}`), "content-type",
		[]byte("application/cloudevents+json"), "dlq-failed-at", []byte("9999-12-31T23:59:59-23:59"), int64(1)<<62)
	f.Add([]byte("\xff"), []byte(strings.Repeat(`{"payload":`, 50_000)), "dlq-topic", []byte(strings.Repeat("t", 6000)), "dlq-offset", []byte("1"), int64(0))
	f.Fuzz(func(t *testing.T, key, value []byte, aName string, aValue []byte, bName string, bValue []byte, stamp int64) {
		headers := []kafkaclient.Header{{Name: aName, Value: aValue}, {Name: bName, Value: bValue}, {Name: "dlq-partition", Value: []byte("0")}}
		l := New(kafkaclient.Stored{Record: kafkaclient.Record{Key: key, Value: value, Headers: headers}, Timestamp: time.UnixMilli(stamp)})
		l.Complete()
		if l.Symbol != "" {
			symbol, err := market.ParseSymbol(l.Symbol)
			require.NoError(t, err)
			require.Equal(t, l.Symbol, string(symbol))
		}
		failure := FailureOf(headers, at)
		texts := []string{l.ContentType, failure.Code, failure.Reason, failure.Function, Fingerprint(failure.Code, failure.Reason)}
		for name, text := range l.Attributes {
			texts = append(texts, name, text)
		}
		if origin := Origin(headers); origin != nil {
			texts = append(texts, origin.Topic, Indexable(origin.Topic))
			require.LessOrEqual(t, len(Indexable(origin.Topic)), 1000)
		}
		for _, text := range texts {
			require.True(t, utf8.ValidString(text) && !strings.Contains(text, "\x00"), "%q", text)
		}
		require.True(t, l.RecordedAt.IsZero() || Plausible(l.RecordedAt))
		require.True(t, Plausible(failure.FailedAt))
		_, err := json.Marshal([]any{l.RecordedAt, failure, l.Attributes})
		require.NoError(t, err)
		require.GreaterOrEqual(t, l.Correction(), 0)
		for _, b := range [][]byte{key, value, aValue} {
			text, encoding := Encode(b)
			again, err := Decode(text, encoding)
			require.NoError(t, err)
			require.Equal(t, string(b), string(again))
		}
		require.True(t, SameEvent(kafkaclient.Stored{Record: kafkaclient.Record{Value: value, Headers: headers}}, value, "", ""))
	})
}
