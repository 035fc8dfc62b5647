package api_test

import (
	"encoding/base64"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"marketdata/shared/api"
	"marketdata/shared/fault"
)

func TestPagesJoinWithoutASeam(t *testing.T) {
	t.Parallel()
	type cursor struct{ N int }
	list := func(after *cursor, limit int) (all []int) {
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
			after, err := api.ReadToken[cursor](api.QueryOf("numbers"), token)
			require.NoError(t, err)
			page, next := api.Page(api.QueryOf("numbers"), list(after, limit+1), limit, func(n int) cursor { return cursor{n} })
			require.LessOrEqual(t, len(page), limit)
			got = append(got, page...)
			if next.NextPageToken == nil {
				break
			}
			token = *next.NextPageToken
		}
		require.Equal(t, []int{1, 2, 3, 4, 5, 6, 7}, got, "limit %d", limit)
	}
}

func TestTokensThatAreNotOurs(t *testing.T) {
	t.Parallel()
	query := api.QueryOf("AAPL", 1)
	good := api.Token(query, json.RawMessage(`{"N":1}`))
	raw, err := base64.RawURLEncoding.DecodeString(good)
	require.NoError(t, err)
	signed := query.SignedWith([]byte("key"))
	for name, c := range map[string]struct {
		query api.Query
		token string
	}{
		"no base64":               {query, "!"},
		"too short":               {query, "bnVsbA"},
		"padded":                  {query, base64.URLEncoding.EncodeToString(raw)},
		"cut":                     {query, good[:len(good)-2]},
		"longer":                  {query, good + "AAAA"},
		"another cursor":          {query, base64.RawURLEncoding.EncodeToString(append(raw[:16:16], `{"N":2}`...))},
		"null":                    {query, api.Token(query, json.RawMessage(`null`))},
		"another type":            {query, api.Token(query, json.RawMessage(`{"N":"1"}`))},
		"NUL":                     {query, api.Token(query, json.RawMessage(`{"S":"\u0000"}`))},
		"not UTF-8":               {query, api.Token(query, json.RawMessage("{\"S\":\"\xff\"}"))},
		"another query":           {api.QueryOf("AAPL", 2), good},
		"fewer parts":             {api.QueryOf("AAPL"), good},
		"parts divided otherwise": {api.QueryOf("AAP", "L1"), good},
		"not signed":              {signed, good},
		"another key":             {signed, api.Token(query.SignedWith([]byte("other")), json.RawMessage(`{"N":1}`))},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cursor, err := api.ReadToken[struct {
				N int
				S string
			}](c.query, c.token)
			require.Nil(t, cursor)
			require.Equal(t, fault.Invalid, fault.KindOf(err))
			require.Equal(t, "invalid_parameter", fault.CodeOf(err))
		})
	}
	cursor, err := api.ReadToken[struct{ N int }](signed, api.Token(signed, struct{ N int }{1}))
	require.NoError(t, err)
	require.Equal(t, 1, cursor.N)
}
