package market

import (
	"math/big"
	"strings"

	"github.com/jackc/pgx/v5/pgtype"
	"github.com/shopspring/decimal"

	"marketdata/shared/fault"
)

// Limits of a price, chosen so that every sum of 50 prices is small and every NUMERIC exact.
const (
	maxIntegerDigits  = 20
	maxFractionDigits = 18
	maxPriceText      = 64 // bytes; a longer text is not parsed, which bounds the cost of hostile exponents
)

// Price is an exact decimal without trailing zeros. The zero Price is 0, which is not a valid quote. It is never converted to
// float64: not in JSON, not in Postgres, not in arithmetic.
type Price struct{ d decimal.Decimal }

// ParsePrice reads a JSON number: greater than 0, at most 20 digits before and 18 after the point; exponents are
// accepted within the same bounds. Errors are Invalid with code "invalid_price".
func ParsePrice(text string) (Price, error) {
	if d, ok := parseShort(text); ok {
		return Price{d}, nil
	}
	d, err := parseDecimal(text)
	if err != nil {
		return Price{}, err
	}
	return withinLimits(NewPrice(d))
}

// ParseRounded reads a JSON number as [ParsePrice] does, and rounds it to places digits after the point, half up: prices that went
// through a float have digits that nobody meant. The result may be 0. The number before rounding may have any number of digits after
// the point.
func ParseRounded(text string, places int32) (Price, error) {
	d, err := parseDecimal(text)
	if err != nil {
		return Price{}, err
	}
	return withinLimits(NewPrice(d.Round(places)))
}

// parseDecimal reads a JSON number greater than 0 whose digits take little memory.
func parseDecimal(text string) (decimal.Decimal, error) {
	if len(text) > maxPriceText || !isJSONNumber(text) {
		return decimal.Decimal{}, fault.New(fault.Invalid, fault.CodeInvalidPrice, "price is not a decimal number of reasonable length")
	}
	d, err := decimal.NewFromString(text)
	if err != nil {
		return decimal.Decimal{}, fault.Wrap(err, fault.Invalid, fault.CodeInvalidPrice, "price is not a decimal number")
	}
	if d.Sign() <= 0 {
		return decimal.Decimal{}, fault.New(fault.Invalid, fault.CodeInvalidPrice, "price must be greater than 0")
	}
	// Bound the exponent before digits are written out: 1e999999999 must not cost memory.
	if e := int64(d.Exponent()); e > maxIntegerDigits || e < -maxPriceText {
		return decimal.Decimal{}, fault.New(fault.Invalid, fault.CodeInvalidPrice, "price is out of range")
	}
	return d, nil
}

func withinLimits(p Price) (Price, error) {
	whole := len(p.d.Coefficient().String()) + int(p.d.Exponent())
	if whole > maxIntegerDigits || int(-p.d.Exponent()) > maxFractionDigits {
		return Price{}, fault.New(fault.Invalid, fault.CodeInvalidPrice,
			"price has more than %d digits before or %d after the point", maxIntegerDigits, maxFractionDigits)
	}
	return p, nil
}

// parseShort reads most prices: up to 18 digits without an exponent, and greater than 0. Other texts, and invalid ones, are left to
// ParsePrice, which takes four times as long.
func parseShort(text string) (decimal.Decimal, bool) {
	if len(text) > 19 || len(text) > 1 && text[0] == '0' && text[1] != '.' {
		return decimal.Decimal{}, false
	}
	var value int64
	point := -1
	for i := range len(text) {
		switch c := text[i]; {
		case '0' <= c && c <= '9':
			value = value*10 + int64(c-'0')
		case c == '.' && point < 0 && i > 0 && i < len(text)-1:
			point = i
		default:
			return decimal.Decimal{}, false
		}
	}
	if value == 0 || point < 0 && len(text) > 18 {
		return decimal.Decimal{}, false
	}
	fraction := int32(0)
	if point >= 0 {
		fraction = int32(len(text) - 1 - point) //nolint:gosec // at most 18
	}
	for fraction > 0 && value%10 == 0 {
		value, fraction = value/10, fraction-1
	}
	return decimal.New(value, -fraction), true
}

// isJSONNumber checks the form of RFC 8259 section 6. Decimal parsers accept more: "+1", ".5", "1.", a minus sign outside of ASCII.
func isJSONNumber(s string) bool {
	s = strings.TrimPrefix(s, "-")
	mantissa, exp, hasExp := strings.Cut(strings.ToLower(s), "e")
	whole, frac, hasFrac := strings.Cut(mantissa, ".")
	if !allDigits(whole) || (len(whole) > 1 && whole[0] == '0') || (hasFrac && !allDigits(frac)) {
		return false
	}
	return !hasExp || allDigits(strings.TrimPrefix(strings.TrimPrefix(exp, "+"), "-"))
}

func allDigits(s string) bool {
	for _, c := range s {
		if c < '0' || c > '9' {
			return false
		}
	}
	return s != ""
}

// NewPrice returns d without trailing zeros, so that equal values have equal representations. It does not check limits.
func NewPrice(d decimal.Decimal) Price {
	if d.Sign() == 0 {
		return Price{}
	}
	c, e := d.Coefficient(), d.Exponent()
	ten, rem := big.NewInt(10), new(big.Int)
	for {
		q, r := new(big.Int).QuoRem(c, ten, rem)
		if r.Sign() != 0 || e >= 0 {
			break
		}
		c, e = q, e+1
	}
	if e > 0 { // 1e3 and 1000 are equal: write the zeros out
		c = c.Mul(c, new(big.Int).Exp(ten, big.NewInt(int64(e)), nil))
		e = 0
	}
	return Price{decimal.NewFromBigInt(c, e)}
}

// Decimal returns the exact value.
func (p Price) Decimal() decimal.Decimal { return p.d }

// Scale returns the number of digits after the point.
func (p Price) Scale() int32 { return -p.d.Exponent() }

// Cmp compares by value: -1, 0 or +1.
func (p Price) Cmp(q Price) int { return p.d.Cmp(q.d) }

// String returns all digits, without an exponent.
func (p Price) String() string { return p.d.String() }

// MarshalJSON returns a JSON number with exact digits.
func (p Price) MarshalJSON() ([]byte, error) { return []byte(p.d.String()), nil }

// UnmarshalJSON accepts a JSON number under the rules of [ParsePrice]; a string is refused.
func (p *Price) UnmarshalJSON(b []byte) error {
	v, err := ParsePrice(string(b))
	if err != nil {
		return err
	}
	*p = v
	return nil
}

// NumericValue implements pgtype.NumericValuer.
func (p Price) NumericValue() (pgtype.Numeric, error) {
	return pgtype.Numeric{Int: p.d.Coefficient(), Exp: p.d.Exponent(), Valid: true}, nil
}

// ScanNumeric implements pgtype.NumericScanner. NULL, NaN and infinities are errors.
func (p *Price) ScanNumeric(n pgtype.Numeric) error {
	if !n.Valid || n.NaN || n.InfinityModifier != pgtype.Finite {
		return fault.New(fault.Internal, fault.CodeInvalidPrice, "stored price is not a finite number")
	}
	*p = NewPrice(decimal.NewFromBigInt(n.Int, n.Exp))
	return nil
}
