package timerange_test

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/shared/fault"
	"marketdata/shared/timerange"
)

var rfc3339 = regexp.MustCompile(`^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)$`)

// FuzzParseRFC3339 compares with the grammar of RFC 3339, and with the library where that is right.
func FuzzParseRFC3339(f *testing.F) {
	for _, text := range []string{
		"2024-03-20T10:30:00Z", "2024-03-20t10:30:00.123456789z", "2016-12-31T23:59:60Z", "2017-01-01T01:59:60+02:00", "2024-03-20T10:30:00+24:00",
		"0000-01-01T00:00:00Z", "9999-12-31T23:59:59-23:59", "2024-03-20T1:30:00Z", "2024-03-20T10:30:00,5Z", "2023-02-29T00:00:00Z",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := timerange.ParseRFC3339(text)
		want, libraryErr := time.Parse(time.RFC3339Nano, strings.ToUpper(text))
		leap := strings.Contains(text, ":60")
		if err == nil {
			require.Regexp(t, rfc3339, text)
			require.Equal(t, time.UTC, got.Location())
			if !leap {
				require.NoError(t, libraryErr)
				require.True(t, want.Equal(got))
			}
			again, err := timerange.ParseRFC3339(got.Format(time.RFC3339Nano))
			if got.Year() >= 0 && got.Year() <= 9999 {
				require.NoError(t, err)
				require.True(t, got.Equal(again))
			}
			return
		}
		require.Zero(t, got)
		require.False(t, rfc3339.MatchString(text) && libraryErr == nil && !leap, "refused: %s", text)
	})
}

// FuzzParse reads any two bounds: a range that is accepted is not empty, and is in whole microseconds.
func FuzzParse(f *testing.F) {
	for _, pair := range [][2]string{
		{"", ""},
		{"2024-03-20", "2024-03-21T00:00:00.0000001Z"},
		{"0", "1710930600123"},
		{"2024", "20240320"},
		{"2024-03-21", "2024-03-20"},
		{"0000-01-01", "0000-12-31"},
		{"2024-03-20T10:30:00.00000000000000000001Z", "2024-03-20T10:30:00.00000000000000000002Z"},
		{"99999999999999999999", "-1"},
		{"0", "270000000000000"},
	} {
		f.Add(pair[0], pair[1])
	}
	f.Fuzz(func(t *testing.T, start, end string) {
		r, err := timerange.Parse(start, end)
		if err != nil {
			require.Equal(t, fault.CodeInvalidParameter, fault.CodeOf(err))
			return
		}
		require.False(t, r.To.Before(r.From), "%s to %s", r.From, r.To)
		for _, at := range []time.Time{r.From, r.To} {
			require.True(t, at.Equal(at.Truncate(time.Microsecond)))
			require.True(t, at.Year() >= -1 && at.Year() <= 10_000, "%s", at)
		}
	})
}
