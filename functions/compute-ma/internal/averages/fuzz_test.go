package averages

import (
	"testing"

	"github.com/stretchr/testify/require"

	"marketdata/functions/compute-ma/internal/series"
	"marketdata/shared/api"
	"marketdata/shared/market"
)

// FuzzCursor reads page tokens with any state, as somebody could make who guessed the key: a state is one that an ema can have.
func FuzzCursor(f *testing.F) {
	for _, state := range []string{"150.25", "1e10000", "-1", "+1", "0", "", "00012", ".5", "5.", "NaN", "0x1p4", "1_0", "\x00"} {
		f.Add(state, int64(1), "AAAA")
	}
	a := New(Config{})
	f.Fuzz(func(t *testing.T, state string, after int64, token string) {
		in := &historyQuery{Kind: ema, Window: 5, PageToken: token}
		query := a.queryOf(in, series.Key{Symbol: "A", Provider: "p"}, series.Range{})
		if _, err := readCursor(query, in); err != nil {
			require.ErrorIs(t, err, api.ErrPageToken)
		}
		in.PageToken = api.Token(query, &cursor{After: after, State: state})
		c, err := readCursor(query, in)
		if err != nil {
			require.ErrorIs(t, err, api.ErrPageToken)
			return
		}
		require.Equal(t, after, c.After)
		require.Equal(t, 1, c.ema.Sign())
		require.LessOrEqual(t, len(c.ema.String()), maxState+1)
		require.LessOrEqual(t, len(market.NewPrice(*c.ema).String()), maxState+1)
	})
}
