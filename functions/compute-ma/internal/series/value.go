package series

import (
	"math"
	"math/big"
	"math/bits"
	"strconv"
	"strings"

	"github.com/shopspring/decimal"
)

// Value is an exact positive decimal, coefficient·10^-scale, without trailing zeros after the point. Most prices fit
// the small form; the wide one takes any. The zero Value is no price.
type Value struct {
	small uint64
	wide  *big.Int // set only where small is too small
	scale uint8    // digits after the point
}

// NewValue takes a decimal greater than 0 with at most 255 digits after the point.
func NewValue(d decimal.Decimal) Value {
	coefficient, scale := d.Coefficient(), -d.Exponent()
	if scale < 0 {
		coefficient.Mul(coefficient, power(int(-scale)))
		scale = 0
	}
	return trimmed(coefficient, int(scale))
}

// trimmed takes over c.
func trimmed(c *big.Int, scale int) Value {
	quotient, remainder := new(big.Int), new(big.Int)
	for scale > 0 && !c.IsUint64() {
		if quotient.QuoRem(c, ten, remainder); remainder.Sign() != 0 {
			break
		}
		c.Set(quotient)
		scale--
	}
	if c.IsUint64() {
		return trimmedSmall(c.Uint64(), scale)
	}
	return Value{wide: c, scale: uint8(scale)} //nolint:gosec // at most 255, see NewValue
}

func trimmedSmall(c uint64, scale int) Value {
	for scale > 0 && c%10 == 0 {
		c, scale = c/10, scale-1
	}
	return Value{small: c, scale: uint8(scale)} //nolint:gosec // at most 255, see NewValue
}

var ten = big.NewInt(10)

func power(n int) *big.Int { return new(big.Int).Exp(ten, big.NewInt(int64(n)), nil) }

// Decimal gives the value to a library that calculates.
func (v Value) Decimal() decimal.Decimal {
	return decimal.NewFromBigInt(v.coefficient(), -int32(v.scale))
}

// coefficient gives a copy.
func (v Value) coefficient() *big.Int {
	if v.wide != nil {
		return new(big.Int).Set(v.wide)
	}
	return new(big.Int).SetUint64(v.small)
}

// String prints every digit, never an exponent.
func (v Value) String() string {
	var digits string
	if v.wide != nil {
		digits = v.wide.String()
	} else {
		digits = strconv.FormatUint(v.small, 10)
	}
	scale := int(v.scale)
	if scale == 0 {
		return digits
	}
	digits = strings.Repeat("0", max(scale+1-len(digits), 0)) + digits
	return digits[:len(digits)-scale] + "." + digits[len(digits)-scale:]
}

// extraPlaces are the digits past the points' greatest scale of a mean that does not end. One that ends has no more of them for any
// window of up to 8191 points: the first fraction with 13 digits is one over 2^13.
const extraPlaces = 12

// Mean is exact where the decimal expansion of sum/n ends, to its last digit; where it does not end it is rounded to the
// values' greatest scale + 12 places (a tie cannot arise: it would end). values must not be empty, nor more than 8191.
func Mean(values []Value) Value {
	if v, ok := smallMean(values); ok {
		return v
	}
	return wideMean(values)
}

// smallMean is Mean in machine words; ok is false where they are too small.
func smallMean(values []Value) (mean Value, ok bool) {
	scale := uint8(0)
	for _, v := range values {
		if v.wide != nil {
			return Value{}, false
		}
		scale = max(scale, v.scale)
	}
	var sum uint64
	for _, v := range values {
		up := scale - v.scale
		if up >= uint8(len(powers)) {
			return Value{}, false
		}
		hi, term := bits.Mul64(v.small, powers[up])
		var carry uint64
		if sum, carry = bits.Add64(sum, term, 0); hi|carry != 0 {
			return Value{}, false
		}
	}
	return smallQuotient(sum, int(scale), uint64(len(values)))
}

// smallQuotient gives sum/n as [Mean] rounds it, where sum has scale digits after the point. ok is false where machine words
// are too small.
func smallQuotient(sum uint64, scale int, n uint64) (mean Value, ok bool) {
	quotient, remainder := sum/n, sum%n
	for places := 0; remainder != 0 && places < extraPlaces; places++ { // long division
		if quotient >= math.MaxUint64/10 {
			return Value{}, false // the next digit might not fit
		}
		quotient, remainder = quotient*10+remainder*10/n, remainder*10%n
		scale++
	}
	if remainder > n-remainder {
		quotient++
	}
	return trimmedSmall(quotient, scale), true
}

// powers are 10^0 to 10^19, all that fit a word.
var powers = func() (p [20]uint64) {
	p[0] = 1
	for i := 1; i < len(p); i++ {
		p[i] = p[i-1] * 10
	}
	return p
}()

// wideMean is Mean for values of any size.
func wideMean(values []Value) Value {
	sum, scale := new(big.Int), 0
	for _, v := range values {
		scale = max(scale, int(v.scale))
	}
	for _, v := range values {
		sum.Add(sum, new(big.Int).Mul(v.coefficient(), power(scale-int(v.scale))))
	}
	return wideQuotient(sum, scale, uint64(len(values)))
}

// wideQuotient is smallQuotient for sums of any size. It takes sum over.
func wideQuotient(sum *big.Int, scale int, n uint64) Value {
	sum.Mul(sum, power(extraPlaces)).Lsh(sum, 1)
	sum.Add(sum, new(big.Int).SetUint64(n)) // half of what it is divided by
	return trimmed(sum.Quo(sum, new(big.Int).SetUint64(2*n)), scale+extraPlaces)
}
