// Package timerange reads the start and end of a history query, for all functions.
//
// A bound is an RFC 3339 instant, a date (its beginning, in UTC), or milliseconds since 1970. The start is inclusive, the end
// exclusive. Bounds are compared exactly, with any number of digits. Start at [Parse].
package timerange

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"marketdata/shared/fault"
)

// Range selects the instants t with From <= t < To. Both are whole microseconds, as stored times are: a bound between two
// microseconds selects the same instants as the later of them.
type Range struct{ From, To time.Time }

// Values of an absent start and an absent end. No series reaches them.
var (
	first = time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)
	last  = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)
)

// Parse reads start and end; an empty text leaves that side open. Errors are Invalid with code "invalid_parameter": an invalid
// bound, or a start that is not before the end.
func Parse(start, end string) (Range, error) {
	from, err := parseBound("start", start, first)
	if err != nil {
		return Range{}, err
	}
	to, err := parseBound("end", end, last)
	if err != nil {
		return Range{}, err
	}
	if !from.before(to) {
		return Range{}, fault.New(fault.Invalid, fault.CodeInvalidParameter, "start must be before end, which is exclusive")
	}
	return Range{from.up(), to.up()}, nil
}

// bound is an instant of any precision: whole microseconds, and the decimal digits after them, without trailing zeros.
type bound struct {
	at   time.Time
	rest string
}

func (b bound) before(other bound) bool {
	return b.at.Before(other.at) || b.at.Equal(other.at) && b.rest < other.rest
}

// up returns b rounded up to a whole microsecond.
func (b bound) up() time.Time {
	if b.rest != "" {
		return b.at.Add(time.Microsecond)
	}
	return b.at
}

// Limits of the number of digits of milliseconds. Fewer digits are a year, a date without dashes, or seconds, which would select
// everything if they were read as milliseconds.
const (
	fewestDigits = 11 // 26 April 1970
	mostDigits   = 15
)

func parseBound(name, text string, absent time.Time) (bound, error) {
	if text == "" {
		return bound{at: absent}, nil
	}
	if day, err := time.Parse(time.DateOnly, text); err == nil {
		return bound{at: day}, nil
	}
	if ms, err := strconv.ParseUint(text, 10, 50); err == nil && (text == "0" || len(text) >= fewestDigits && len(text) <= mostDigits) {
		if at := time.UnixMilli(int64(ms)).UTC(); !at.After(last) { // years have four digits in all forms
			return bound{at: at}, nil
		}
	}
	t, err := ParseRFC3339(text)
	if err != nil {
		return bound{}, fault.Wrap(err, fault.Invalid, fault.CodeInvalidParameter,
			"%s must be an RFC 3339 time, a date, or milliseconds since 1970", name)
	}
	return bound{t.Truncate(time.Microsecond), below(text)}, nil
}

// below returns the digits after the microseconds of a valid time.
func below(text string) string {
	_, fraction, _ := strings.Cut(text, ".")
	fraction = strings.TrimSuffix(fraction, strings.TrimLeft(fraction, "0123456789")) // the zone
	return strings.TrimRight(fraction[min(6, len(fraction)):], "0")
}

var errForm = errors.New("not an RFC 3339 time")

// ParseRFC3339 reads a time exactly as RFC 3339 section 5.6 defines it. time.Parse accepts invalid times (an hour of one digit, a
// comma, an offset of 24 hours) and refuses valid ones (t and z in lower case, leap seconds). The result is in UTC; digits beyond
// nanoseconds are dropped. A leap second becomes the second after it, as in POSIX time.
func ParseRFC3339(text string) (time.Time, error) {
	const form = "0000-00-00T00:00:00"
	if len(text) <= len(form) || !matches(form, text[:len(form)]) {
		return time.Time{}, errForm
	}
	offset := strings.LastIndexAny(text, "Zz+-") // at least 0: the date has dashes
	fraction, zone := text[len(form):max(offset, len(form))], strings.ToUpper(text[offset:])
	if zone != "Z" && (!matches("+00:00", "+"+zone[1:]) || zone[1:3] > "23" || zone[4:] > "59") {
		return time.Time{}, errForm
	}
	if fraction != "" && fraction[0] != '.' {
		return time.Time{}, errForm
	}
	clock := text[len("0000-00-00T"):len(form)]
	leap := strings.HasSuffix(clock, ":60")
	if leap {
		clock = clock[:len("00:00")] + ":59"
	}
	// The library refuses months, days and clock times that do not exist, and fractions of other than digits.
	t, err := time.Parse(time.RFC3339Nano, text[:len("0000-00-00")]+"T"+clock+fraction+zone)
	if err != nil {
		return time.Time{}, errForm
	}
	t = t.UTC()
	if leap {
		if hour, minute, _ := t.Clock(); hour != 23 || minute != 59 {
			return time.Time{}, errForm
		}
		t = t.Add(time.Second)
	}
	return t, nil
}

// matches reports whether text has the form: a digit for each 0, T or t for T, and otherwise the same byte.
func matches(form, text string) bool {
	if len(text) != len(form) {
		return false
	}
	for i := range len(form) {
		switch c := text[i]; form[i] {
		case '0':
			if c < '0' || c > '9' {
				return false
			}
		case 'T':
			if c != 'T' && c != 't' {
				return false
			}
		default:
			if c != form[i] {
				return false
			}
		}
	}
	return true
}
