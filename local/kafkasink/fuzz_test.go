package kafkasink_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"marketdata/shared/deadletter"
)

// FuzzSink sends any event: it is refused, or a record that fits, with its bytes.
func FuzzSink(f *testing.F) {
	f.Add("1.0", "", "AAPL", "v", []byte("\x00\xff"))
	f.Add("", "application/cloudevents+json", "", "", []byte(`{"specversion":"1.0","id":"1","source":"/s","type":"t","x":"\u0000","data_base64":"AP8="}`))
	f.Add("", "application/json", "", "", []byte("{}"))
	f.Fuzz(func(t *testing.T, version, contentType, key, extension string, body []byte) {
		p := &producer{}
		status := send(p, http.MethodPost, string(body), map[string]string{
			"Ce-Specversion": version, "Content-Type": contentType, "Ce-Id": "1", "Ce-Source": "/s", "Ce-Type": "t", "Ce-Partitionkey": key, "Ce-X": extension,
		})
		if status != http.StatusAccepted {
			require.Contains(t, []int{http.StatusBadRequest, http.StatusServiceUnavailable}, status)
			require.Empty(t, p.records)
			return
		}
		require.Len(t, p.records, 1)
		r := p.records[0]
		require.LessOrEqual(t, r.Bytes(), deadletter.SinkBytes)
		names := map[string]bool{}
		for _, h := range r.Headers {
			require.False(t, names[h.Name], h.Name)
			require.Equal(t, strings.ToLower(h.Name), h.Name)
			names[h.Name] = true
		}
		if version != "" {
			require.Equal(t, string(body), string(r.Value))
			require.Equal(t, key, string(r.Key))
		}
	})
}
