package pricecache

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"marketdata/shared/market"
)

// FuzzDecode reads any value of Redis: it is not ours, or has a valid price, and is written again as it was.
func FuzzDecode(f *testing.F) {
	price, err := market.ParsePrice("150.25")
	require.NoError(f, err)
	q := market.Quote{Price: price, ObservedAt: time.UnixMicro(1710930600123456), Currency: "GBp"}
	id := uuid.MustParse("0190f5d8-7a1c-7c2e-9d53-5a0d1f5f7c11")
	f.Add(rank(q, id) + digits(time.UnixMicro(2)) + digits(time.UnixMicro(3)) + rest(q))
	f.Add(tag + "x")
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		v, err := decode(text)
		if err != nil {
			require.ErrorIs(t, err, errForeign)
			require.Zero(t, v)
			return
		}
		require.Equal(t, 1, v.quote.Price.Cmp(market.Price{}))
		again, err := decode(rank(v.quote, v.id) + digits(v.redis) + digits(v.writer) + rest(v.quote))
		require.NoError(t, err)
		require.Equal(t, v, again)
	})
}
