package series

import (
	"cmp"
	"strings"
)

// Key names a series: the prices of one symbol from one provider.
type Key struct{ Symbol, Provider string }

// Compare orders keys by their bytes, as Postgres does with the collation "C".
func (k Key) Compare(other Key) int {
	return cmp.Or(strings.Compare(k.Symbol, other.Symbol), strings.Compare(k.Provider, other.Provider))
}

// Range selects the points from From (inclusive) to To (exclusive), in microseconds since 1970.
type Range struct{ From, To int64 }
