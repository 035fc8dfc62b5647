package letter

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"marketdata/functions/dlq-inspector/internal/lettertest"
	"marketdata/shared/deadletter"
	"marketdata/shared/kafkaclient"
)

var at = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)

func TestFailuresAreStorable(t *testing.T) {
	t.Parallel()
	f := FailureOf(lettertest.Headers("dlq-code", "a\xff\x00b", "dlq-reason", strings.Repeat("é", 2000), "dlq-failed-at", "0001-01-01T00:00:00Z"), at)
	require.Equal(t, "a\uFFFD\uFFFDb", f.Code)
	require.Len(t, f.Reason, 2000)
	require.Equal(t, at, f.FailedAt, "not every reader can hold that time")
	require.Equal(t, deadletter.Failure{Code: "unknown", FailedAt: at}, FailureOf(nil, at))
}

func TestOriginsAreStorable(t *testing.T) {
	t.Parallel()
	require.Equal(t, &kafkaclient.Place{Topic: "a\uFFFD\uFFFDb", Partition: 1, Offset: 2},
		Origin(lettertest.Headers("dlq-topic", "a\xff\x00b", "dlq-partition", "1", "dlq-offset", "2")))
	require.Nil(t, Origin(nil))
}

func TestFingerprintIsOneForOneCause(t *testing.T) {
	t.Parallel()
	same := func(a, b string) bool { return Fingerprint("x", a) == Fingerprint("x", b) }
	require.True(t, same("row 17 of 0190f5d8-0000-7000-8000-000000000001", "row 4 of ffffffff-0000-7000-8000-000000000001"))
	require.True(t, same(`member "price" at 0xdeadbeef`, `member "time" at 0x1`))
	require.False(t, same("price", "timestamp"))
	require.NotEqual(t, Fingerprint("x", ""), Fingerprint("y", ""))
}

func TestTruncateKeepsWholeCharacters(t *testing.T) {
	t.Parallel()
	for _, c := range []string{"a", "é", "日", "𝄞"} {
		for n := range 12 {
			got := Truncate(strings.Repeat(c, 10), n)
			require.True(t, utf8.ValidString(got), "%s %d", c, n)
			require.LessOrEqual(t, len(got), n)
			require.Greater(t, len(got), min(n, 10*len(c))-len(c))
		}
	}
}

func TestAttributesLeaveOutTheFailureAndTheRecord(t *testing.T) {
	t.Parallel()
	require.Equal(t, map[string]string{"id": "1", "type": "t", "correction": "2"}, attributesOf(lettertest.Headers(
		"ce_id", "1", "ce_type", "t", "ce_correction", "2", "ce_knativeerrorcode", "503", "ce_knativekafkaoffset", "9", "ce_kafkatopic", "t", "dlq-code", "x")))
	require.Equal(t, 2, (&Letter{Attributes: map[string]string{"correction": "2"}}).Correction())
	require.Zero(t, (&Letter{Attributes: map[string]string{"correction": "x"}}).Correction())
}

func TestSymbolOf(t *testing.T) {
	t.Parallel()
	require.Equal(t, "AAPL", symbolOf([]byte(`{"symbol":"aapl","price":"x"}`), nil, nil))
	require.Equal(t, "MSFT", symbolOf([]byte("junk"), map[string]string{"type": "marketdata.price.observed.v1", "subject": "MSFT"}, nil))
	require.Equal(t, "IBM", symbolOf([]byte("junk"), map[string]string{"type": "x"}, []byte("IBM")))
	require.Empty(t, symbolOf([]byte("junk"), nil, []byte{0xFF}))
}

func TestEncodeAndDecode(t *testing.T) {
	t.Parallel()
	for _, b := range [][]byte{{}, []byte("text é"), {0xFF}, {'a', 0}} {
		value, encoding := Encode(b)
		back, err := Decode(value, encoding)
		require.NoError(t, err)
		require.Equal(t, string(b), string(back))
		require.Equal(t, utf8.Valid(b) && !strings.Contains(string(b), "\x00"), encoding == "text")
	}
	_, err := Decode("!", "base64")
	require.Error(t, err)
}
