package upstream_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/shared/fault"
	"marketdata/shared/market"
	"marketdata/shared/market/upstream"
)

// minute is a time in minutes after an hour.
func minute(n int) time.Time { return time.Date(2026, 3, 10, 12, n, 0, 0, time.UTC) }

func TestPart(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ to, end, next int }{
		"smaller than an answer": {9, 9, 0},
		"as large as an answer":  {10, 10, 0},
		"larger than an answer":  {11, 10, 10},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			end, next := upstream.Part(market.Minute, minute(0), minute(c.to), 10)
			require.Equal(t, minute(c.end), end)
			require.Equal(t, c.next == 0, next.IsZero())
			if c.next > 0 {
				require.Equal(t, minute(c.next), next)
			}
		})
	}
}

func TestIsMissing(t *testing.T) {
	t.Parallel()
	number := func(s json.Number) *json.Number { return &s }
	for _, n := range []*json.Number{nil, number("0"), number("0.0"), number("0.0000")} {
		require.True(t, upstream.IsMissing(n))
	}
	for _, text := range []json.Number{"", "1", "0.01", "10", "-1", "0e0x"} {
		require.False(t, upstream.IsMissing(&text), text)
	}
}

func TestFinish(t *testing.T) {
	t.Parallel()
	price := func(text string) market.Price {
		p, err := market.ParsePrice(text)
		require.NoError(t, err)
		return p
	}
	bar := func(n int, text string) market.Bar { return market.Bar{Start: minute(n), Close: price(text)} }
	final := func(b market.Bar) market.Bar { b.Final = true; return b }
	end := func(start time.Time) time.Time { return start.Add(time.Minute) }
	newestFirst := func() []market.Bar { return []market.Bar{bar(3, "3"), bar(2, "2"), bar(1, "1")} }
	for name, c := range map[string]struct {
		bars     []market.Bar
		from, to int
		clock    time.Time
		want     []market.Bar
	}{
		"the last has ended":     {newestFirst(), 0, 9, minute(4), []market.Bar{final(bar(1, "1")), final(bar(2, "2")), final(bar(3, "3"))}},
		"the last has not ended": {newestFirst(), 0, 9, minute(4).Add(-1), []market.Bar{final(bar(1, "1")), final(bar(2, "2")), bar(3, "3")}},
		"a clock that is behind": {newestFirst(), 0, 9, minute(0), []market.Bar{final(bar(1, "1")), final(bar(2, "2")), bar(3, "3")}},
		// A bar outside the range tells that the one before has ended.
		"bars outside the range": {newestFirst(), 2, 3, minute(0), []market.Bar{final(bar(2, "2"))}},
		"of two the last counts": {[]market.Bar{bar(1, "1"), bar(2, "2"), bar(2, "5")}, 0, 9, minute(0), []market.Bar{final(bar(1, "1")), bar(2, "5")}},
		"none":                   {nil, 0, 9, minute(0), nil},
		"none in the range":      {newestFirst(), 5, 9, minute(9), nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.want, upstream.Finish(c.bars, minute(c.from), minute(c.to), c.clock, end))
		})
	}
}

func TestStart(t *testing.T) {
	t.Parallel()
	start, err := upstream.Start(minute(5).Local(), 5*time.Minute)
	require.NoError(t, err)
	require.Equal(t, minute(5), start)
	for _, at := range []time.Time{minute(6), minute(5).Add(1), {}, time.Unix(-300, 0), time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)} {
		_, err := upstream.Start(at, 5*time.Minute)
		require.Equal(t, "provider_malformed", fault.CodeOf(err), at)
	}
}
