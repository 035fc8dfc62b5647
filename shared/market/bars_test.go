package market_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/shared/fault"
	"marketdata/shared/market"
)

func TestIntervals(t *testing.T) {
	t.Parallel()
	lengths := map[string]time.Duration{
		"1m": time.Minute, "5m": 5 * time.Minute, "15m": 15 * time.Minute, "1h": time.Hour, "1d": 24 * time.Hour,
	}
	require.Len(t, market.Intervals, len(lengths))
	for text, length := range lengths {
		interval, err := market.ParseInterval(text)
		require.NoError(t, err)
		require.Equal(t, text, string(interval))
		require.Equal(t, length, interval.Duration())
	}
	require.IsIncreasing(t, durations(market.Intervals))
	for _, text := range []string{"", "1M", "1d ", "2m", "60m", "-1d"} {
		_, err := market.ParseInterval(text)
		require.Equal(t, "invalid_parameter", fault.CodeOf(err), text)
		require.Equal(t, fault.Invalid, fault.KindOf(err), text)
	}
	require.Zero(t, market.Interval("2m").Duration())
}

func durations(all []market.Interval) (lengths []time.Duration) {
	for _, interval := range all {
		lengths = append(lengths, interval.Duration())
	}
	return lengths
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
	for _, own := range []string{"my-own", "x"} {
		provider, interval, ok := market.ParseBarSeries(own + "-1h")
		require.True(t, ok)
		require.Equal(t, own, provider)
		require.Equal(t, market.Hour, interval)
	}
	for _, name := range []string{"", "-1d", "1d", "yfinance-", "yfinance-2m", "yfinance-1d-"} {
		_, _, ok := market.ParseBarSeries(name)
		require.False(t, ok, name)
	}
}

// After a split, the closes of these providers are in new shares, so that a followed history is fetched again.
func TestProvidersThatAdjust(t *testing.T) {
	t.Parallel()
	for provider, adjusts := range map[string]bool{"yfinance": true, "alpha_vantage": false, "binance": false, "yfinance-1d": false, "": false} {
		require.Equal(t, adjusts, market.Adjusts(provider), provider)
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
	nothing, err := market.ParseRounded("0.004", 2)
	require.NoError(t, err)
	require.Equal(t, market.Price{}, nothing)
	for _, text := range []string{"", "0", "-1", "NaN", "1e400", "1e-400", "123456789012345678901", "1,5", `"1"`} {
		_, err := market.ParseRounded(text, 2)
		require.Equal(t, "invalid_price", fault.CodeOf(err), text)
	}
}
