// Package timerange reads the start and end of a history query. Every history of every function reads them this way.
//
// A bound is an RFC 3339 instant, a date (its beginning, in UTC), or milliseconds since 1970. Start is inclusive, end is
// exclusive. Bounds are compared exactly, however many digits they have. Start at [Parse].
package timerange

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"marketdata/shared/fault"
)

// Range selects the instants t with From <= t < To. Both are whole microseconds: stored times are, so a bound between
// two microseconds selects the same as the later of them.
type Range struct{ From, To time.Time }

// What an absent start and an absent end mean: no series reaches them.
var (
	first = time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)
	last  = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)
)

// Parse reads start and end; empty text leaves that side open. Errors are Invalid with code "invalid_parameter": a bound
// that cannot be read, and a start that is not before its end.
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
		return Range{}, fault.New(fault.Invalid, "invalid_parameter", "start must be before end, which is exclusive")
	}
	return Range{from.up(), to.up()}, nil
}

// bound is an instant of any precision: whole microseconds, and the decimal digits that follow them, without trailing zeros.
type bound struct {
	at   time.Time
	rest string
}

func (b bound) before(other bound) bool {
	return b.at.Before(other.at) || b.at.Equal(other.at) && b.rest < other.rest
}

// up is the first whole microsecond that is not before b.
func (b bound) up() time.Time {
	if b.rest != "" {
		return b.at.Add(time.Microsecond)
	}
	return b.at
}

// The number of digits of milliseconds. Fewer are no milliseconds but a year, a date without dashes, or seconds, and would
// silently select everything.
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
		return bound{at: time.UnixMilli(int64(ms)).UTC()}, nil
	}
	t, err := ParseRFC3339(text)
	if err != nil {
		return bound{}, fault.Wrap(err, fault.Invalid, "invalid_parameter",
			"%s must be an RFC 3339 time, a date, or milliseconds since 1970", name)
	}
	return bound{t.Truncate(time.Microsecond), below(text)}, nil
}

// below gives the digits of a well-formed time that follow its microseconds.
func below(text string) string {
	_, fraction, _ := strings.Cut(text, ".")
	if end := strings.IndexFunc(fraction, func(c rune) bool { return c < '0' || c > '9' }); end >= 0 {
		fraction = fraction[:end]
	}
	return strings.TrimRight(fraction[min(6, len(fraction)):], "0")
}

var errForm = errors.New("not an RFC 3339 time")

// ParseRFC3339 reads a time as RFC 3339 section 5.6 has it, no more and no less. time.Parse takes what is none (an hour of
// one digit, a comma, an offset of 24 hours) and refuses what is one (t and z in lower case, leap seconds). The answer is
// UTC; digits beyond nanoseconds are cut. A leap second is the second after it, as in POSIX time.
func ParseRFC3339(text string) (time.Time, error) {
	const form = "0000-00-00T00:00:00"
	if len(text) <= len(form) || !matches(form, text[:len(form)]) {
		return time.Time{}, errForm
	}
	offset := strings.LastIndexAny(text, "Zz+-") // the date's dashes are there, whatever follows
	fraction, zone := text[len(form):max(offset, len(form))], strings.ToUpper(text[offset:])
	if zone != "Z" && (!matches("+00:00", "+"+zone[1:]) || zone[1:3] > "23" || zone[4:] > "59") {
		return time.Time{}, errForm
	}
	if fraction != "" && (fraction[0] != '.' || len(fraction) == 1 || strings.Trim(fraction[1:], "0123456789") != "") {
		return time.Time{}, errForm
	}
	clock := text[len("0000-00-00T"):len(form)]
	leap := strings.HasSuffix(clock, ":60")
	if leap {
		clock = clock[:len("00:00")] + ":59"
	}
	// What is left for the library to refuse: months, days and clock times that do not exist.
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

// matches reports whether text has the form: a digit for each 0, T or t for T, each other byte itself.
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
