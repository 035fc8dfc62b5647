package jobs

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/shared/fault"
	"marketdata/shared/market"
)

func TestParse(t *testing.T) {
	t.Parallel()
	c, err := Parse([]string{"msft", "AAPL", "MSFT", "aapl"}, 60, "yfinance")
	require.NoError(t, err)
	require.Equal(t, Config{Symbols: []market.Symbol{"MSFT", "AAPL"}, Interval: 60, Provider: "yfinance"}, c)
	a, err := c.Fingerprint()
	require.NoError(t, err)
	same, err := Parse([]string{"MSFT", "AAPL"}, 60, "yfinance")
	require.NoError(t, err)
	b, err := same.Fingerprint()
	require.NoError(t, err)
	require.Equal(t, a, b)
	for _, other := range []Config{{c.Symbols[:1], 60, "yfinance"}, {c.Symbols, 61, "yfinance"}, {c.Symbols, 60, Auto}} {
		b, err := other.Fingerprint()
		require.NoError(t, err)
		require.NotEqual(t, a, b)
	}
	for name, bad := range map[string][]string{"none": nil, "empty": {""}, "a space": {"A B"}, "too long": {strings.Repeat("A", 33)}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Parse(bad, 60, "yfinance")
			require.Equal(t, fault.Invalid, fault.KindOf(err))
		})
	}
}

// However late a tick comes: the period is one of created + k × interval, the newest that is due, and the next is later
// than now.
func TestPeriod(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 1))
	created := time.Date(2024, 1, 1, 0, 0, 0, 123456000, time.UTC)
	for range 2000 {
		interval := time.Duration(5+rng.IntN(86396)) * time.Second
		now := created.Add(time.Duration(rng.Int64N(int64(30 * 24 * time.Hour))))
		due, next := Period(created, now, interval)
		require.Zero(t, due.Sub(created)%interval)
		require.False(t, due.After(now))
		require.True(t, next.After(now))
		require.Equal(t, interval, next.Sub(due))
	}
	due, next := Period(created, created, time.Minute)
	require.Equal(t, created, due, "a new job is due at once")
	require.Equal(t, created.Add(time.Minute), next)
	due, _ = Period(created, created.Add(-time.Hour), time.Minute)
	require.Equal(t, created, due, "a clock that was set back makes no period before the first")
}
