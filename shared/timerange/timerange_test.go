package timerange_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/shared/fault"
	"marketdata/shared/timerange"
)

func TestBounds(t *testing.T) {
	t.Parallel()
	const beginning, end = "0001-01-01T00:00:00Z", "10000-01-01T00:00:00Z"
	for _, c := range []struct{ name, start, end, from, to string }{
		{"absent", "", "", beginning, end},
		{"instants", "2024-03-20T10:30:00Z", "2024-03-20T10:30:00.000001Z", "2024-03-20T10:30:00Z", "2024-03-20T10:30:00.000001Z"},
		{"an offset", "2024-03-20T10:30:00+02:00", "", "2024-03-20T08:30:00Z", end},
		{"lower case", "2024-03-20t10:30:00z", "", "2024-03-20T10:30:00Z", end},
		{"dates", "2024-03-20", "2024-03-21", "2024-03-20T00:00:00Z", "2024-03-21T00:00:00Z"},
		{"milliseconds", "1710930600123", "1710930600124", "2024-03-20T10:30:00.123Z", "2024-03-20T10:30:00.124Z"},
		{"the epoch", "0", "10000000000", "1970-01-01T00:00:00Z", "1970-04-26T17:46:40Z"},
		{"forms may differ", "2024-03-20", "1710930600123", "2024-03-20T00:00:00Z", "2024-03-20T10:30:00.123Z"},
		{"below a microsecond", "2024-03-20T10:30:00.0000005Z", "2024-03-20T10:30:00.0000015Z", "2024-03-20T10:30:00.000001Z", "2024-03-20T10:30:00.000002Z"},
		{"below a nanosecond", "2024-03-20T10:30:00.0000000001Z", "2024-03-20T10:30:00.0000010000000001Z", "2024-03-20T10:30:00.000001Z", "2024-03-20T10:30:00.000002Z"},
		{"zeros below a microsecond", "2024-03-20T10:30:00.0000010000Z", "", "2024-03-20T10:30:00.000001Z", end},
		{"zeros before an offset", "2024-03-20T10:30:00.1234560+01:00", "", "2024-03-20T09:30:00.123456Z", end},
		{"many digits", "99999999999", "100000000000000", "1973-03-03T09:46:39.999Z", "5138-11-16T09:46:40Z"},
		{"before 1970", "1969-12-31T23:59:59.9999995Z", "", "1970-01-01T00:00:00Z", end},
		{"nothing between", "2024-03-20T10:30:00.0000001Z", "2024-03-20T10:30:00.0000009Z", "2024-03-20T10:30:00.000001Z", "2024-03-20T10:30:00.000001Z"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := timerange.Parse(c.start, c.end)
			require.NoError(t, err)
			require.Equal(t, c.from, got.From.Format(time.RFC3339Nano))
			require.Equal(t, c.to, got.To.Format(time.RFC3339Nano))
			require.Equal(t, time.UTC, got.From.Location())
		})
	}
}

func TestRefusedBounds(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"2024", "202403", "20240320", "1710930600", "9999999999", "00", "+1710930600123", "-1710930600123", "1_710_930_600_123", "1710930600.123", "1e12",
		"253402300800001", "999999999999999", "1000000000000000", "9999999999999999", "0001710930600123", strings.Repeat("9", 400), "yesterday", "2024-03", "2024-3-20", "2024-02-30", "2024-03-20T10:30", "2024-03-20T10:30:00",
		"2024-03-20 10:30:00Z", " 2024-03-20", "2024-03-20T1:30:00Z", "2024-03-20T10:30:00,5Z", "\x00", "٢٠٢٤-٠٣-٢٠",
	} {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			for name, bounds := range map[string][2]string{"start": {text, ""}, "end": {"", text}} {
				_, err := timerange.Parse(bounds[0], bounds[1])
				require.ErrorContains(t, err, name+" must be an RFC 3339 time")
				require.Equal(t, "invalid_parameter", fault.CodeOf(err), "%q", bounds)
				require.Equal(t, fault.Invalid, fault.KindOf(err), "%q", bounds)
			}
		})
	}
	for _, bounds := range [][2]string{
		{"2024-03-20", "2024-03-20"},
		{"2024-03-21", "2024-03-20"},
		{"2024-03-20", "2024-03-20T01:00:00+01:00"},
		{"2024-03-20T10:30:00.0000009Z", "2024-03-20T10:30:00.00000010Z"},
		{"2024-03-20T10:30:00.50Z", "2024-03-20T10:30:00.5Z"},
		{"2024-03-20T10:30:01Z", "2024-03-20T10:30:00.0000001Z"},
	} {
		t.Run(bounds[0], func(t *testing.T) {
			t.Parallel()
			_, err := timerange.Parse(bounds[0], bounds[1])
			require.Equal(t, "invalid_parameter", fault.CodeOf(err))
			_, err = timerange.Parse(bounds[0], "")
			require.NoError(t, err, "the start is valid")
			_, err = timerange.Parse("", bounds[1])
			require.NoError(t, err, "the end is valid")
		})
	}
}

// Exactly RFC 3339 section 5.6.
func TestRFC3339(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"2024-03-20T10:30:00Z": "2024-03-20T10:30:00Z", "2024-03-20t10:30:00.5z": "2024-03-20T10:30:00.5Z",
		"2024-03-20T10:30:00-00:00": "2024-03-20T10:30:00Z", "2024-03-20T10:30:00+23:59": "2024-03-19T10:31:00Z",
		"2016-12-31T23:59:60Z": "2017-01-01T00:00:00Z", "2016-12-31T15:59:60.25-08:00": "2017-01-01T00:00:00.25Z",
		"0000-01-01T00:00:00Z": "0000-01-01T00:00:00Z", "2024-02-29T00:00:00.123456789123Z": "2024-02-29T00:00:00.123456789Z",
	} {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			got, err := timerange.ParseRFC3339(text)
			require.NoError(t, err)
			require.Equal(t, want, got.Format(time.RFC3339Nano))
		})
	}
	for _, text := range []string{
		"2024-03-20T10:30:00.5", "2024-03-20T10:30:00.5x5Z", "2024-03-20T10:30:00.x5Z", "2024-03-20T10:30:00+1",
		"", "t", "2024-03-20", "2024-03-20T10:30:00", "2024-03-20T10:30:00+24:01", "2024-03-20T10:30:00+00:60", "2024-03-20T10:30:00+0100",
		"2024-03-20T1:30:00Z", "2024-03-20T10:30:00,5Z", "2024-03-20T10:30:00.Z", "2024-03-20T24:00:00Z", "2024-03-20T10:60:00Z", "2024-03-20T10:30:61Z",
		"2024-03-20T10:30:60Z", "2016-12-31T23:59:60+01:00", "2016-12-31T23:58:60Z", "2016-12-31T22:59:60Z", "2023-02-29T00:00:00Z", "2024-03-20 10:30:00Z", "2024-03-20T10:30:00Zz", "12024-03-20T10:30:00Z",
	} {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			_, err := timerange.ParseRFC3339(text)
			require.Error(t, err)
		})
	}
}
