package series

import (
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"
)

// A window says of every run what Mean says of it, to the last digit, whatever sizes of values pass through it.
func TestWindowIsTheMeanOfWhatItHolds(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 1))
		values := make([]Value, 300)
		for i := range values {
			digits := big.NewInt(1 + rng.Int64N(1_000_000))
			if rng.IntN(10) == 0 { // too wide for a word
				digits.Mul(digits, power(15+rng.IntN(15))).Add(digits, big.NewInt(rng.Int64N(1000)))
			}
			values[i] = NewValue(decimal.NewFromBigInt(digits, -int32(rng.IntN(19))))
		}
		for _, size := range []int{1, 2, 3, 7, 64, 300} {
			w := NewWindow(values)
			for i, v := range values {
				w.Add(v)
				if i >= size {
					w.Remove(values[i-size])
				}
				if i >= size-1 {
					require.Equal(t, Mean(values[i-size+1:i+1]).String(), w.Mean().String(), "seed %d, size %d, end %d", seed, size, i)
				}
			}
		}
	}
}
