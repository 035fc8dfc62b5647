package averages

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"marketdata/functions/compute-ma/internal/series"
	"marketdata/shared/api"
	"marketdata/shared/service"
)

// The key of page tokens can be guessed if the database has no password. A token holds no state that an ema cannot have all the same.
func TestAGuessedTokenHoldsNoOtherState(t *testing.T) {
	t.Parallel()
	a, in := New(Config{}), &historyQuery{Kind: ema, Window: 5}
	query := a.queryOf(in, series.Key{Symbol: "A", Provider: "p"}, series.Range{})
	longest := strings.Repeat("9", 20) + "." + strings.Repeat("9", series.StatePlaces)
	for state, usable := range map[string]bool{
		"150.25": true, longest: true, longest + "9": false, "1e10000": false, "1E5": false, "+1": false, "-1": false, "0": false, "": false, "x": false,
	} {
		in.PageToken = api.Token(query, &cursor{After: 1, State: state})
		c, err := readCursor(query, in)
		if !usable {
			require.ErrorIs(t, err, api.ErrPageToken, state)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, state, c.ema.String())
	}
}

// A token is signed with what all replicas of one system share, and no other system has.
func TestTokensOfAnotherSystem(t *testing.T) {
	t.Parallel()
	in, key := &historyQuery{Kind: ema, Window: 5}, series.Key{Symbol: "A", Provider: "p"}
	query := func(databaseURL service.Secret) api.Query {
		return New(Config{Secret: databaseURL}).queryOf(in, key, series.Range{})
	}
	in.PageToken = api.Token(query("postgres://u:p@h/d"), &cursor{After: 1, State: "150.25"})
	_, err := readCursor(query("postgres://u:p@h/d"), in)
	require.NoError(t, err)
	_, err = readCursor(query("postgres://u:q@h/d"), in)
	require.ErrorIs(t, err, api.ErrPageToken)
}
