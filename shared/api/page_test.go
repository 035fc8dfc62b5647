package api_test

import (
	"encoding/base64"
	"testing"

	"github.com/stretchr/testify/require"

	"marketdata/shared/api"
	"marketdata/shared/fault"
)

func TestPagesJoinWithoutASeam(t *testing.T) {
	t.Parallel()
	type place struct{ N int }
	list := func(after *place, limit int) (all []int) {
		for n := 1; n <= 7 && len(all) < limit; n++ {
			if after == nil || n > after.N {
				all = append(all, n)
			}
		}
		return all
	}
	for limit := 1; limit <= 8; limit++ {
		var got []int
		token := ""
		for {
			after, err := api.ReadToken[place](token)
			require.NoError(t, err)
			page, next := api.Page(list(after, limit+1), limit, func(n int) place { return place{n} })
			require.LessOrEqual(t, len(page), limit)
			got = append(got, page...)
			if next == nil {
				break
			}
			token = *next
		}
		require.Equal(t, []int{1, 2, 3, 4, 5, 6, 7}, got, "limit %d", limit)
	}
}

func TestTokensThatAreNotOurs(t *testing.T) {
	t.Parallel()
	for _, token := range []string{"!", "bnVsbA", "e30x", base64.StdEncoding.EncodeToString([]byte(`{"N":1}`)), base64.RawURLEncoding.EncodeToString([]byte(`{"N":"1"}`)), "eyJOIjoxfR"} {
		place, err := api.ReadToken[struct{ N int }](token)
		require.Nil(t, place)
		require.Equal(t, "invalid_parameter", fault.CodeOf(err), token)
	}
}
