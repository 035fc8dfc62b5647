package replay

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"marketdata/functions/dlq-inspector/internal/letter"
	"marketdata/functions/dlq-inspector/internal/lettertest"
	"marketdata/shared/fault"
	"marketdata/shared/ingress"
	"marketdata/shared/kafkaclient"
	"marketdata/shared/priceevent"
)

// FuzzOutgoing delivers letters with any metadata, as they are and edited: HTTP carries the request, the function decodes it to an event
// with the very value, and an edit that was accepted is a price event there, with the correction of its letter.
func FuzzOutgoing(f *testing.F) {
	good := string(lettertest.GoodEvent)
	envelope := fmt.Sprintf(`{"specversion":"1.0","id":"1","source":"/s","type":"t","trace":"7","time":"2024-01-01T00:00:00Z","data":%s}`, good)
	f.Add("application/json", "subject", "AAPL", "correction", "2", "price-events", []byte(good))
	f.Add("text/plain; charset=\"é\"", "trace id", "\x7f", "time", "58877-01-01T00:00:00Z", "a b\n%", []byte(envelope))
	f.Add("a\nb", "source", "%zz", "id", "", "", []byte(`{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{}}`))
	f.Add("application/json", "trace", " x\x7f\r\nX: y", "dataschema", "http://[::1", "t", []byte(envelope+"x"))
	f.Add("application/cloudevents+json", "a", "b", "c", "d", "t", []byte(nil))
	f.Add("application/cloudevents-batch+json", "a", "b", "c", "d", "t", []byte("[]"))
	f.Add("text/csv", "specversion", "9", "type", "\x00", strings.Repeat("é", 200), []byte("[]"))
	f.Add("", "y", strings.Repeat("é", 4_000), "x", strings.Repeat("x", 41_000), "t", []byte(strings.Replace(envelope, `"7"`, `"\u0000é\u007f"`, 1)))
	f.Add("application/json", "kafkatopic", "t", "knativekafkaoffset", "1", "t", []byte(strings.Replace(envelope, `"trace"`, `"correction":7,"replayid"`, 1)))
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	name := regexp.MustCompile(`^[A-Z][A-Za-z0-9-]*$`)
	deliver := func(t *testing.T, l letter.Stored, by *edit) (ingress.Delivery, error) {
		t.Helper()
		header, value := outgoing(l, l.ID, by)
		size := 0
		for n, values := range header {
			require.Regexp(t, name, n)
			require.Len(t, values, 1)
			require.False(t, strings.ContainsFunc(values[0], func(c rune) bool { return c < ' ' || c > '~' }) || strings.Trim(values[0], " ") != values[0], "%s: %q", n, values[0])
			size += len(n) + len(values[0])
		}
		require.Less(t, size, 60<<10+len(l.ContentType), "proxies take it")
		require.Equal(t, l.ID.String(), header.Get("Ce-Replayid"))
		r := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(value))
		r.Header = header
		return ingress.Read(r, 1<<20)
	}
	f.Fuzz(func(t *testing.T, contentType, aName, aValue, bName, bValue, topic string, written []byte) {
		for _, attributes := range []map[string]string{{}, lettertest.Event()} {
			attributes[aName], attributes[bName] = aValue, bValue
			l := letter.Stored{ID: uuid.UUID{1}, Attributes: attributes, Value: lettertest.GoodEvent, ContentType: contentType, State: letter.State{Correction: 5}}
			if topic != "" {
				l.Origin = &kafkaclient.Place{Topic: topic, Offset: 1}
			}
			d, err := deliver(t, l, nil)
			require.NoError(t, err)
			require.NoError(t, d.Event.Validate())
			require.Equal(t, string(l.Value), string(d.Event.Data()))
			by, err := readEdit(written, now)
			if err != nil {
				require.Equal(t, fault.Invalid, fault.KindOf(err))
				continue
			}
			require.Equal(t, string(written), string(by.written))
			d, err = deliver(t, l, by)
			require.NoError(t, err)
			require.NoError(t, d.Event.Validate())
			require.Equal(t, string(by.value), string(d.Event.Data()))
			require.Equal(t, strconv.Itoa(l.Correction), d.Header.Get("Ce-Correction"))
			_, err = priceevent.Decode(d.Event.Data(), l.Correction, now)
			require.NoError(t, err)
		}
	})
}
