package letter

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"marketdata/shared/deadletter"
	"marketdata/shared/kafkaclient"
)

// Text returns the last value of a header in storable text, empty if there is none.
func Text(headers []kafkaclient.Header, name string) string {
	return Clean(deadletter.Text(headers, name))
}

// Clean makes text storable: Postgres accepts neither invalid UTF-8 nor NUL.
func Clean(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// Truncate cuts valid text to at most n bytes, between two characters.
func Truncate(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// Indexable cuts text that goes into an index: a row of a Postgres index holds at most 2,700 bytes, and one of ours holds source and
// id, or a topic, beside numbers and a digest. Text that is cut ends with its digest, so different texts stay different.
func Indexable(s string) string {
	const most, kept = 1000, 900
	if len(s) <= most {
		return s
	}
	sum := sha256.Sum256([]byte(s))
	return Truncate(s, kept) + "…" + hex.EncodeToString(sum[:])
}

// Plausible reports a time from 1970 to 9999, which every reader of a letter can hold: JSON ends with the year 9999, and a Kafka
// timestamp that was meant in microseconds lies far beyond it. Any other time counts as not given.
func Plausible(t time.Time) bool {
	year := t.UTC().Year()
	return year >= 1970 && year <= 9999
}

// Encode returns bytes for JSON: as text if they are valid UTF-8 without NUL, otherwise as base64.
func Encode(b []byte) (value, encoding string) {
	if utf8.Valid(b) && !strings.Contains(string(b), "\x00") {
		return string(b), "text"
	}
	return base64.StdEncoding.EncodeToString(b), "base64"
}

// Decode is the inverse of [Encode]. An empty encoding is text.
func Decode(value, encoding string) ([]byte, error) {
	switch encoding {
	case "", "text":
		return []byte(value), nil
	case "base64":
		return base64.StdEncoding.DecodeString(value)
	}
	return nil, fmt.Errorf("unknown encoding %q", encoding)
}
