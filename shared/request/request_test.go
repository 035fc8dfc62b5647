package request

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

func TestWhatClientsSendIsTakenOnlyInItsForm(t *testing.T) {
	t.Parallel()
	for id, usable := range map[string]bool{
		"a": true, "A-z_0.9:": true, strings.Repeat("x", 128): true, "": false, strings.Repeat("x", 129): false, "a b": false, "é": false, "a\n": false, `"`: false,
	} {
		t.Run(id, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, usable, usableID(id))
		})
	}
	seen := map[string]bool{}
	for range 1000 {
		id := newID()
		parsed, err := uuid.Parse(id)
		require.NoError(t, err)
		require.Equal(t, uuid.Version(4), parsed.Version())
		require.Equal(t, uuid.RFC4122, parsed.Variant())
		require.False(t, seen[id])
		seen[id] = true
	}
}

// Events carry the trace context of a request on, unless it has another form.
func TestATraceContextIsCarriedOnlyInItsForm(t *testing.T) {
	t.Parallel()
	const good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	for header, carried := range map[string]string{good: good, good[:54]: "", good + "-00": "", "x": ""} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Traceparent", header)
		r, _ = Begin(r)
		require.Equal(t, carried, Traceparent(r.Context()), header)
	}
}
