package backfill

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/shared/fault"
	"marketdata/shared/market"
)

// FuzzParse reads any range: one that is accepted can be stored, shown and fetched in a bounded number of calls.
func FuzzParse(f *testing.F) {
	for _, pair := range [][2]string{
		{"2024-01-01", ""},
		{"0", "1710930600123"},
		{"2024-01-01", "9999-12-31T23:59:59-23:59"},
		{"1969-12-31T23:59:59.9999999Z", ""},
		{"1969-06-01", "1970-01-02"},
		{"2030-01-01", ""},
		{"1970-01-01", "9999-12-31"},
		{"", "2024-01-01"},
		{"2024-01-01T00:00:00.0000001Z", "2024-01-01T00:00:00.0000002Z"},
	} {
		for i := range market.Intervals {
			f.Add(pair[0], pair[1], uint8(i))
		}
	}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, start, end string, i uint8) {
		interval := market.Intervals[int(i)%len(market.Intervals)]
		c, err := Parse([]market.Symbol{"A"}, "p", interval, start, end, now)
		if err != nil {
			require.Equal(t, fault.CodeInvalidParameter, fault.CodeOf(err))
			return
		}
		require.True(t, !c.Start.Before(earliest) && c.Start.Before(now))
		_, err = c.Fingerprint()
		require.NoError(t, err)
		text, err := json.Marshal(c)
		require.NoError(t, err)
		var again Config
		require.NoError(t, json.Unmarshal(text, &again))
		last := now
		if c.End != nil {
			require.True(t, !c.End.Before(c.Start) && again.End.Equal(*c.End))
			last = *c.End
		}
		require.LessOrEqual(t, (last.Unix()-c.Start.Unix())/int64(interval.Duration()/time.Second), int64(MaxBars))
	})
}
