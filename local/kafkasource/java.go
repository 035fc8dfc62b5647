package kafkasource

import (
	"fmt"
	"math"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// javaTime formats as ISO_OFFSET_DATE_TIME does: years beyond 9999 have a sign. They come from producers that send microseconds for
// milliseconds: the year is then about 58,000.
func javaTime(t time.Time) string {
	return javaYear(t.Year()) + t.Format("-01-02T15:04:05.999999999Z07:00")
}

func javaYear(year int) string {
	switch {
	case year > 9999:
		return "+" + strconv.Itoa(year)
	case year < 0:
		return fmt.Sprintf("-%04d", -year)
	}
	return fmt.Sprintf("%04d", year)
}

// offsetTime has the times that OffsetDateTime.parse accepts: seconds are optional, and so is the colon of an offset.
var offsetTime = regexp.MustCompile(`^(\+\d{5,9}|-\d{4,9}|\d{4})(-\d\d-\d\dT\d\d:\d\d)(:\d\d(?:\.\d{1,9})?)?(?:Z|([+-]\d\d)(?::?(\d\d))?)$`)

// reformatTime parses a time as OffsetDateTime.parse does, and formats it as ISO_OFFSET_DATE_TIME does (sdk-java's Time.java): the data
// plane never passes the text of a time on.
func reformatTime(text string) (string, bool) {
	m := offsetTime.FindStringSubmatch(strings.ToUpper(text))
	if m == nil {
		return "", false
	}
	year, _ := strconv.Atoi(m[1])      // digits, by the pattern
	alike := 2000 + (year%400+400)%400 // has the same leap days; time.Parse has no years of more digits
	t, err := time.Parse("2006-01-02T15:04:05Z07:00", strconv.Itoa(alike)+m[2]+orElse(m[3], ":00")+orElse(m[4], "+00")+":"+orElse(m[5], "00"))
	return javaYear(year) + strings.TrimPrefix(javaTime(t), strconv.Itoa(alike)), err == nil
}

// isURI reports whether java.net.URI accepts text. Unlike RFC 3986 it allows other alphabets; the empty text is a URI, too.
func isURI(text string) bool {
	_, err := url.Parse(text)
	return err == nil && !strings.ContainsAny(text, " \"<>\\^`{|}") && strings.Count(text, "#") < 2
}

// javaFloat formats as Java's toString does since JDK 19: the shortest text that is the same number, but always with a decimal point, and
// with an exponent from 10^7 on and below 10^-3.
func javaFloat(f float64, bits int) string {
	switch {
	case math.IsNaN(f):
		return "NaN"
	case math.IsInf(f, 1):
		return "Infinity"
	case math.IsInf(f, -1):
		return "-Infinity"
	}
	if abs := math.Abs(f); f == 0 || abs >= 1e-3 && abs < 1e7 {
		s := strconv.FormatFloat(f, 'f', -1, bits)
		if !strings.Contains(s, ".") {
			s += ".0"
		}
		return s
	}
	text := strconv.FormatFloat(f, 'e', -1, bits)
	if !strings.Contains(text, ".") {
		text = strconv.FormatFloat(f, 'e', 1, bits) // the least number is 4.9E-324, not 5.0E-324
	}
	mantissa, exponent, _ := strings.Cut(text, "e")
	n, _ := strconv.Atoi(exponent)
	return mantissa + "E" + strconv.Itoa(n)
}

// utf8Text decodes as Java does: bytes that are not UTF-8 become U+FFFD.
func utf8Text(b []byte) string {
	if utf8.Valid(b) {
		return string(b)
	}
	return string([]rune(string(b)))
}
