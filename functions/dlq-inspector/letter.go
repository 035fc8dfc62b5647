package main

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"marketdata/shared/deadletter"
	"marketdata/shared/kafkaclient"
)

// place is where a record is on a topic.
type place = deadletter.Place

// placeOf returns the place in three columns of a table, nil if one is null.
func placeOf(topic *string, partition *int32, offset *int64) *place {
	if topic == nil || partition == nil || offset == nil {
		return nil
	}
	return &place{Topic: *topic, Partition: *partition, Offset: *offset}
}

// failure is one refusal of a letter's event.
type failure = deadletter.Failure

// failureOf returns the failure that a dead letter's headers describe, in texts that can be stored; at is used if they do not say when.
func failureOf(headers []kafkaclient.Header, at time.Time) failure {
	f := deadletter.FailureOf(headers)
	if !plausible(f.FailedAt) {
		f.FailedAt = at
	}
	f.Code, f.Reason, f.Function = truncate(clean(f.Code), 200), truncate(clean(f.Reason), 2000), truncate(clean(f.Function), 200)
	return f
}

// text returns the last value of a header, made valid UTF-8.
func text(headers []kafkaclient.Header, name string) string {
	return clean(deadletter.Text(headers, name))
}

// letter is a dead letter as it is stored.
type letter struct {
	ID          uuid.UUID
	Origin      *place    // of the original record; nil where nobody knows it
	RecordedAt  time.Time // zero: not known
	Exact       bool
	Key         []byte
	Value       []byte
	Headers     []kafkaclient.Header
	Attributes  map[string]string
	ContentType string
	Symbol      string
}

// arrival is a dead letter that came in.
type arrival struct {
	letter

	failure failure
	at      *place // of the dead letter record that tells of the failure; nil: nobody knows
}

// clean makes text storable: Postgres takes neither invalid UTF-8 nor NUL.
func clean(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// plausible reports a time that every reader of a letter can hold: JSON ends with the year 9999, and a Kafka timestamp that was meant in
// microseconds lies far beyond it. What is not plausible counts as not given.
func plausible(t time.Time) bool {
	year := t.UTC().Year()
	return year >= 1970 && year <= 9999
}

// indexable cuts what goes into an index of Postgres, whose rows end at 2,700 bytes: source and id, or a topic, with some numbers
// and a digest. What is cut keeps its digest, so that two of them stay two.
func indexable(s string) string {
	const most, kept = 1000, 900
	if len(s) <= most {
		return s
	}
	sum := sha256.Sum256([]byte(s))
	return truncate(s, kept) + "…" + hex.EncodeToString(sum[:])
}

// truncate cuts valid text to at most n bytes, between two characters.
func truncate(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

var masks = []struct {
	pattern *regexp.Regexp
	with    string
}{
	{regexp.MustCompile(`(?i)[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`), "<id>"},
	{regexp.MustCompile(`(?i)\b0x[0-9a-f]+\b|\b[0-9a-f]{16,}\b`), "<hex>"},
	{regexp.MustCompile(`"[^"]*"`), "<text>"},
	{regexp.MustCompile(`\d+(\.\d+)?`), "<n>"},
}

// fingerprint is the same for failures of one cause: code and reason with numbers, ids, hex and quoted text masked.
func fingerprint(f failure) string {
	reason := f.Reason
	for _, m := range masks {
		reason = m.pattern.ReplaceAllString(reason, m.with)
	}
	sum := sha256.Sum256([]byte(f.Code + "\n" + reason))
	return hex.EncodeToString(sum[:8])
}

// encode gives bytes for JSON: as text if they are valid UTF-8 without NUL, else as base64.
func encode(b []byte) (value, encoding string) {
	if utf8.Valid(b) && !strings.Contains(string(b), "\x00") {
		return string(b), "text"
	}
	return base64.StdEncoding.EncodeToString(b), "base64"
}

// decode is the inverse of encode.
func decode(value, encoding string) ([]byte, error) {
	switch encoding {
	case "", "text":
		return []byte(value), nil
	case "base64":
		return base64.StdEncoding.DecodeString(value)
	}
	return nil, fmt.Errorf("unknown encoding %q", encoding)
}
