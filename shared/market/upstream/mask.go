package upstream

import (
	"fmt"
	"regexp"
	"strings"
)

// shortKey is the length from which a key is masked anywhere. A shorter one, such as Alpha Vantage's public "demo", is masked
// only as a whole word: inside a word it would be a coincidence, and masking digits would damage prices.
const shortKey = 8

var masked = []byte("REDACTED")

// newMask returns a function that replaces each echo of the key, in upper or lower case and as escaped in URLs and JSON. (Alpha
// Vantage responds "We have detected your API key as …".) It returns its argument if there is no echo.
func newMask(key string) func([]byte) []byte {
	if key == "" {
		return func(b []byte) []byte { return b }
	}
	var pattern strings.Builder
	for _, c := range []byte(key) {
		plain := regexp.QuoteMeta(string(rune(c)))
		if c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' {
			pattern.WriteString(plain)
			continue
		}
		fmt.Fprintf(&pattern, `(?:%%%02x|\\u%04x|\\?%s)`, c, c, plain)
	}
	expression := pattern.String()
	if len(key) < shortKey {
		expression = `\b` + expression + `\b`
	}
	echo := regexp.MustCompile(`(?i)` + expression)
	return func(b []byte) []byte {
		if !echo.Match(b) {
			return b
		}
		return echo.ReplaceAllLiteral(b, masked)
	}
}
