package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	"github.com/stretchr/testify/require"

	"marketdata/shared/fault"
	"marketdata/shared/kafkaclient"
)

func headersOf(pairs ...string) []kafkaclient.Header {
	var out []kafkaclient.Header
	for i := 0; i < len(pairs); i += 2 {
		out = append(out, kafkaclient.Header{Name: pairs[i], Value: []byte(pairs[i+1])})
	}
	return out
}

var at = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)

func TestFailuresAreStorable(t *testing.T) {
	t.Parallel()
	f := failureOf(headersOf("dlq-code", "a\xff\x00b", "dlq-reason", strings.Repeat("é", 2000), "dlq-failed-at", "0001-01-01T00:00:00Z"), at)
	require.Equal(t, "a\uFFFD\uFFFDb", f.Code)
	require.Len(t, f.Reason, 2000)
	require.Equal(t, at, f.FailedAt, "no reader could hold that time")
	require.Equal(t, failure{Code: "unknown", FailedAt: at}, failureOf(nil, at))
}

func TestFingerprintIsOneForOneCause(t *testing.T) {
	t.Parallel()
	same := func(a, b string) bool {
		return fingerprint(failure{Code: "x", Reason: a}) == fingerprint(failure{Code: "x", Reason: b})
	}
	require.True(t, same("row 17 of 0190f5d8-0000-7000-8000-000000000001", "row 4 of ffffffff-0000-7000-8000-000000000001"))
	require.True(t, same(`member "price" at 0xdeadbeef`, `member "time" at 0x1`))
	require.False(t, same("price", "timestamp"))
	require.NotEqual(t, fingerprint(failure{Code: "x"}), fingerprint(failure{Code: "y"}))
}

func TestTruncateKeepsWholeCharacters(t *testing.T) {
	t.Parallel()
	for _, c := range []string{"a", "é", "日", "𝄞"} {
		for n := range 12 {
			got := truncate(strings.Repeat(c, 10), n)
			require.True(t, utf8.ValidString(got), "%s %d", c, n)
			require.LessOrEqual(t, len(got), n)
			require.Greater(t, len(got), min(n, 10*len(c))-len(c))
		}
	}
}

func TestAttributesLeaveOutTheFailureAndTheRecord(t *testing.T) {
	t.Parallel()
	require.Equal(t, map[string]string{"id": "1", "type": "t", "correction": "2"}, attributes(headersOf(
		"ce_id", "1", "ce_type", "t", "ce_correction", "2", "ce_knativeerrorcode", "503", "ce_knativekafkaoffset", "9", "ce_kafkatopic", "t", "dlq-code", "x")))
	require.Equal(t, 2, correctionOf(map[string]string{"correction": "2"}))
	require.Zero(t, correctionOf(map[string]string{"correction": "x"}))
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
		value, encoding := encode(b)
		back, err := decode(value, encoding)
		require.NoError(t, err)
		require.Equal(t, string(b), string(back))
		require.Equal(t, utf8.Valid(b) && !strings.Contains(string(b), "\x00"), encoding == "text")
	}
	_, err := decode("!", "base64")
	require.Error(t, err)
}

func TestAccess(t *testing.T) {
	t.Parallel()
	sum := sha256.Sum256([]byte("anna's"))
	a := newAccess("anna:"+hex.EncodeToString(sum[:]), "shared")
	for header, want := range map[string]string{"Bearer anna's": "anna", "bearer shared": "operator"} {
		got, err := a.who(header)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	for _, header := range []string{"", "Bearer", "Bearer ", "Bearer wrong", "Basic shared", "shared"} {
		_, err := a.who(header)
		require.Equal(t, "unauthorized", fault.CodeOf(err), header)
	}
	_, err := newAccess("", "").who("Bearer ")
	require.ErrorContains(t, err, "no operator token is configured")
	require.Error(t, validTokens("anna:short"))
	require.NoError(t, validTokens(""))
	require.NotContains(t, validTokens("anna:secret").Error(), "secret")
}

// The library's schema leaves out an embedded struct whose type is not exported, which JSON does not.
func TestDocumentShowsAllOfALetter(t *testing.T) {
	t.Parallel()
	text, err := json.Marshal(bodyOf(stored{}, nil, nil))
	require.NoError(t, err)
	var members map[string]any
	require.NoError(t, json.Unmarshal(text, &members))
	schema := huma.NewMapRegistry("#/", huma.DefaultSchemaNamer).Schema(reflect.TypeFor[letterBody](), false, "")
	for name := range members {
		require.Contains(t, schema.Properties, name)
	}
}
