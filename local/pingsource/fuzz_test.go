package pingsource

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// FuzzParse reads any schedule. What is accepted never repeats at an interval, and ticks at whole seconds that the fields name, missing none.
func FuzzParse(f *testing.F) {
	for _, c := range [][2]string{
		{"*/5 * * * * *", ""},
		{"0 9 * * 1-5", "America/New_York"},
		{"0 0 30 2 *", ""},
		{"59 23 31 1,3,5 ?", "UTC"},
		{"5/20 1-9/3 * * *", "Europe/Berlin"},
		{"@hourly", ""},
		{"* * * * *", ""},
		{"* * * * * *", ""},
		{"@every 5s", ""},
		{" @every 5s", ""},
		{"", "UTC @every 5s"},
		{"0 0 13 * 5", ""},
		{"30 2 * mar sun", "Europe/Berlin"},
		{"0 0 */2 1 0", ""},
		{"0 0 */1,3 1 0", ""},
		{"* * * * *", "../UTC"},
	} {
		f.Add(c[0], c[1], int64(1_767_262_832_000_000_001))
	}
	f.Fuzz(func(t *testing.T, schedule, timezone string, at int64) {
		fields := strings.Fields(schedule)
		s, err := Parse(schedule, timezone)
		if err != nil {
			always := timezone == "" && strings.Trim(schedule, "* ") == "" && strings.Count(schedule, "*") == len(fields) && (len(fields) == 5 || len(fields) == 6)
			require.False(t, always, "%q", schedule)
			return
		}
		require.NotContains(t, timezone+" "+schedule, "@every")
		now := time.Unix(0, at).UTC()
		next := s.Next(now)
		if next.IsZero() {
			return // it never comes
		}
		require.True(t, next.After(now))
		require.Zero(t, next.Nanosecond())
		require.True(t, next.Equal(s.Next(next.Add(-1))), "the tick is the next one until it comes")
		if len(fields) == 5 {
			fields = append([]string{"0"}, fields...)
		}
		if timezone != "" || len(fields) != 6 || strings.Trim(schedule, "0123456789*/,- ") != "" {
			return
		}
		require.True(t, fits(fields, next), "%s", next)
		for missed, i := now.Truncate(time.Second).Add(time.Second), 0; missed.Before(next) && i < 100; missed, i = missed.Add(time.Second), i+1 {
			require.False(t, fits(fields, missed), "%s is before %s", missed, next)
		}
	})
}

// fits reports whether the fields of a schedule name a time: second, minute, hour, day of the month, month, day of the week.
func fits(fields []string, at time.Time) bool {
	day, weekday := named(fields[3], at.Day(), 31), named(fields[5], int(at.Weekday()), 6)
	if !anyDay(fields[3]) && !anyDay(fields[5]) {
		day, weekday = day || weekday, true // as in cron: one of both is enough
	}
	return named(fields[0], at.Second(), 59) && named(fields[1], at.Minute(), 59) && named(fields[2], at.Hour(), 23) && day &&
		named(fields[4], int(at.Month()), 12) && weekday
}

// anyDay reports whether a field has a * that names all days. One with a step does not, to the library of Knative's PingSource.
func anyDay(field string) bool {
	return slices.ContainsFunc(strings.Split(field, ","), func(part string) bool {
		span, step, stepped := strings.Cut(part, "/")
		every, _ := strconv.Atoi(step)
		return strings.HasPrefix(span, "*") && (!stepped || every == 1)
	})
}

// named reports whether a field names a number: a list of numbers, ranges and *, each with or without a step.
func named(field string, n, most int) bool {
	for part := range strings.SplitSeq(field, ",") {
		span, step, stepped := strings.Cut(part, "/")
		first, last, ranged := strings.Cut(span, "-")
		low, _ := strconv.Atoi(first)
		high, _ := strconv.Atoi(last)
		every, _ := strconv.Atoi(step)
		switch {
		case first == "*":
			high = most
			if most == 31 || most == 12 {
				low = 1
			}
		case !ranged && stepped:
			high = most
		case !ranged:
			high = low
		}
		if low <= n && n <= high && (!stepped || (n-low)%every == 0) {
			return true
		}
	}
	return false
}
