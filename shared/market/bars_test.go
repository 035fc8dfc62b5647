package market_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"marketdata/shared/fault"
	"marketdata/shared/market"
)

func TestIntervals(t *testing.T) {
	t.Parallel()
	for i, interval := range market.Intervals {
		parsed, err := market.ParseInterval(string(interval))
		require.NoError(t, err)
		require.Equal(t, interval, parsed)
		require.Positive(t, interval.Duration())
		if i > 0 {
			require.Greater(t, interval.Duration(), market.Intervals[i-1].Duration())
		}
	}
	for _, text := range []string{"", "1M", "1d ", "2m", "60m", "-1d"} {
		_, err := market.ParseInterval(text)
		require.Equal(t, "invalid_parameter", fault.CodeOf(err), text)
		require.Equal(t, fault.Invalid, fault.KindOf(err), text)
	}
	require.Zero(t, market.Interval("2m").Duration())
}

func TestBarSeries(t *testing.T) {
	t.Parallel()
	for _, l := range market.Catalog {
		for _, interval := range market.Intervals {
			name := market.BarSeries(l.Name, interval)
			_, err := market.ParseProvider(name)
			require.NoError(t, err, "the name takes the place of a provider's")
			provider, parsed, ok := market.ParseBarSeries(name)
			require.True(t, ok)
			require.Equal(t, l.Name, provider)
			require.Equal(t, interval, parsed)
		}
		_, _, ok := market.ParseBarSeries(l.Name)
		require.False(t, ok, "quotes and bars are different series")
	}
	provider, interval, ok := market.ParseBarSeries("my-own-1h")
	require.True(t, ok)
	require.Equal(t, "my-own", provider)
	require.Equal(t, market.Hour, interval)
	for _, name := range []string{"", "-1d", "1d", "yfinance-", "yfinance-2m", "yfinance-1d-"} {
		_, _, ok := market.ParseBarSeries(name)
		require.False(t, ok, name)
	}
}

func TestParseRounded(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		text   string
		places int32
		want   string
	}{
		"noise of a float32":               {"220.69000244140625", 2, "220.69"},
		"noise below":                      {"172.61999511718750", 2, "172.62"},
		"a half is rounded up":             {"0.125", 2, "0.13"},
		"an exponent":                      {"8.519999937561806e-06", 8, "0.00000852"},
		"more digits than a price has":     {"0.000008519999937561806", 8, "0.00000852"},
		"fewer digits than places":         {"12.5", 4, "12.5"},
		"no places":                        {"38924.5", 0, "38925"},
		"less than half of a unit is zero": {"0.004", 2, "0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := market.ParseRounded(c.text, c.places)
			require.NoError(t, err)
			require.Equal(t, c.want, p.String())
		})
	}
	for _, text := range []string{"", "0", "-1", "NaN", "1e400", "1e-400", "123456789012345678901", "1,5", `"1"`} {
		_, err := market.ParseRounded(text, 2)
		require.Equal(t, "invalid_price", fault.CodeOf(err), text)
	}
}
