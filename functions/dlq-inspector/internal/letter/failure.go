package letter

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"time"

	"marketdata/shared/deadletter"
	"marketdata/shared/kafkaclient"
)

// Origin returns the place of the record that a dead letter was made of, with the topic as storable text; nil if its headers do not
// say.
func Origin(headers []kafkaclient.Header) *kafkaclient.Place {
	p := deadletter.Origin(headers)
	if p != nil {
		p.Topic = Clean(p.Topic)
	}
	return p
}

// FailureOf returns the failure that a dead letter's headers describe, in storable texts. at is used if they give no plausible time.
func FailureOf(headers []kafkaclient.Header, at time.Time) deadletter.Failure {
	f := deadletter.FailureOf(headers)
	if !Plausible(f.FailedAt) {
		f.FailedAt = at
	}
	f.Code, f.Reason, f.Function = CodeText(f.Code), ReasonText(f.Reason), Truncate(Clean(f.Function), 200)
	return f
}

// CodeText returns a code in storable text of at most 200 bytes.
func CodeText(s string) string { return Truncate(Clean(s), 200) }

// ReasonText returns a reason in storable text of at most 2000 bytes.
func ReasonText(s string) string { return Truncate(Clean(s), 2000) }

var masks = []struct {
	pattern *regexp.Regexp
	with    string
}{
	{regexp.MustCompile(`(?i)[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`), "<id>"},
	{regexp.MustCompile(`(?i)\b0x[0-9a-f]+\b|\b[0-9a-f]{16,}\b`), "<hex>"},
	{regexp.MustCompile(`"[^"]*"`), "<text>"},
	{regexp.MustCompile(`\d+(\.\d+)?`), "<n>"},
}

// Fingerprint is the same for failures of one cause. It is a digest of code and reason, with numbers, ids, hex and quoted text masked.
func Fingerprint(code, reason string) string {
	for _, m := range masks {
		reason = m.pattern.ReplaceAllString(reason, m.with)
	}
	sum := sha256.Sum256([]byte(code + "\n" + reason))
	return hex.EncodeToString(sum[:8])
}
