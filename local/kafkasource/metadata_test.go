package kafkasource

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A record with more metadata than HTTP can carry is delivered as no CloudEvent, at its place and with its value.
func TestMetadataThatHTTPCannotCarry(t *testing.T) {
	t.Parallel()
	event := []Header{{"ce_specversion", []byte("1.0")}, {"ce_id", []byte("1")}, {"ce_source", []byte("/s")}, {"ce_type", []byte("t")}}
	large := []byte(strings.Repeat("x", maxMetadata))
	for name, r := range map[string]Record{
		"an extension":   {Headers: append([]Header{{"ce_x", large}}, event...)},
		"a plain header": {Headers: []Header{{"x", large}}},
		"a key":          {Key: large},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r.Topic, r.Partition, r.Offset, r.Value = "t", 3, 9, []byte("v")
			ev := FromRecord(r, Spec{Extensions: map[string]string{"kafkatopic": "t"}})
			require.Equal(t, map[string]string{"kafkatopic": "t", "knativekafkapartition": "3", "knativekafkaoffset": "9"}, ev.Attributes)
			require.Equal(t, "v", string(ev.Data))
		})
	}
	ev := FromRecord(Record{Headers: event, Value: []byte("v")}, Spec{})
	require.Equal(t, "1", ev.Attributes["id"])
}
