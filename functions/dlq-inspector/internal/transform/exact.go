package transform

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math/big"
	"regexp"
	"sync"
	"time"

	"github.com/itchyny/gojq"
	"github.com/shopspring/decimal"

	"marketdata/shared/fault"
)

// maxExponent bounds the numbers that are calculated with: 1e999999999 must not cost memory.
const maxExponent = 5000

// functions returns the functions that rewritten programs call.
func (m *machine) functions() []gojq.CompilerOption {
	check := func(name string, ok func(v any) error) gojq.CompilerOption {
		return gojq.WithFunction(name, 0, 1, func(v any, args []any) any {
			err := ok(v)
			if err == nil {
				return v
			}
			text := ""
			if len(args) == 1 {
				text, _ = args[0].(string)
			}
			return m.refuse(text, err)
		})
	}
	return []gojq.CompilerOption{
		gojq.WithFunction(fnBinary, 4, 4, func(_ any, args []any) any {
			operator, _ := args[2].(string)
			out, err := binary(operator, args[0], args[1])
			if err != nil {
				text, _ := args[3].(string)
				return m.refuse(text, err)
			}
			return out
		}),
		gojq.WithFunction(fnNumber, 0, 0, func(v any, _ []any) any { return number(v) }),
		gojq.WithFunction(fnDate, 0, 0, func(v any, _ []any) any {
			out, err := date(v)
			if err != nil {
				return m.refuse("todate", err)
			}
			return out
		}),
		gojq.WithFunction(fnFromJSON, 0, 0, func(v any, _ []any) any {
			text, ok := v.(string)
			if !ok {
				return failed("fromjson: not a text")
			}
			out, err := decode([]byte(text))
			if err != nil {
				return err
			}
			return out
		}),
		check(fnGuarded, func(v any) error { return guardedNumbers(v) }),
		check(fnWhole, wholeNumbers),
		check(fnPosition, positions),
		check(fnSized, func(v any) error {
			if !small(v) {
				return errTooLarge
			}
			return nil
		}),
	}
}

// inexactError is a calculation that would lose digits.
type inexactError struct{ why string }

func (e *inexactError) Error() string { return e.why }

func inexact(format string, args ...any) error { return &inexactError{fmt.Sprintf(format, args...)} }

// refuse returns the error of an expression. One that is not exact also decides how the program ends, so that it cannot be caught.
func (m *machine) refuse(text string, err error) error {
	if e, ok := err.(*inexactError); ok { //nolint:errorlint // it is never wrapped
		err = fault.New(fault.Invalid, fault.CodeInexact, "`%s` is not exact: %s", shortened(text), e.why)
		m.inexact = cmp.Or(m.inexact, err)
	}
	return err
}

// shortened cuts a text in the middle of a message.
func shortened(text string) string {
	if r := []rune(text); len(r) > 80 {
		return string(r[:79]) + "…"
	}
	return text
}

var numeral = regexp.MustCompile(`^-?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$`)

// number is tonumber. The number has the digits of the text.
func number(v any) any {
	text, ok := v.(string)
	switch {
	case isNumber(v):
		return v
	case !ok:
		return failed("tonumber: %s is not a number", gojq.TypeOf(v))
	case !numeral.MatchString(text):
		return failed("tonumber: %q is not a number", shortened(text))
	case json.Valid([]byte(text)):
		return json.Number(text)
	}
	d, err := decimalOf(json.Number(text)) // for instance .5 or 007
	if err != nil {
		return failed("tonumber: %s", err)
	}
	return json.Number(d.String())
}

func isNumber(v any) bool {
	switch v.(type) {
	case int, float64, *big.Int, json.Number:
		return true
	}
	return false
}

// decimalOf returns the value of a number. A float64 is one that a guarded function has made, and stands for its shortest digits.
func decimalOf(v any) (decimal.Decimal, error) {
	switch v := v.(type) {
	case int:
		return decimal.NewFromInt(int64(v)), nil
	case float64:
		return decimal.NewFromFloat(v), nil
	case *big.Int:
		return decimal.NewFromBigInt(v, 0), nil
	case json.Number:
		if len(v) > maxExponent {
			return decimal.Decimal{}, inexact("%s is too long to calculate with", shortened(string(v)))
		}
		d, err := decimal.NewFromString(string(v))
		if err != nil || d.Exponent() > maxExponent || d.Exponent() < -maxExponent {
			return d, inexact("%s is too long to calculate with", shortened(string(v)))
		}
		return d, nil
	}
	return decimal.Decimal{}, failed("%s is not a number", gojq.TypeOf(v))
}

// errMisplaced ends a program that gojq compiles wrongly: `1 + (. as [$a] | $a // $a | $a)` leaves a value too many among the operands.
var errMisplaced = failed("jq mixes up the operands of this program")

// binary is an operator. Operands of other types are handled as jq does.
func binary(operator string, l, r any) (any, error) {
	switch operator {
	case "+", "-", "*", "/", "%":
	case "==", "!=", "<", "<=", ">", ">=":
		c, err := compare(l, r, new(int))
		return map[string]bool{"==": c == 0, "!=": c != 0, "<": c < 0, "<=": c <= 0, ">": c > 0, ">=": c >= 0}[operator], err
	default:
		return nil, errMisplaced
	}
	if isNumber(l) && isNumber(r) {
		return calculate(operator, l, r)
	}
	if operator == "+" && (l == nil || r == nil) {
		if l == nil {
			return r, nil
		}
		return l, nil
	}
	if err := bounded(operator, l, r); err != nil {
		return nil, err
	}
	if operator == "-" { // arrays: elements are compared
		if err := guardedNumbers([]any{l, r}); err != nil {
			return nil, err
		}
	}
	out, _ := jqOperators()[operator].Run(nil, l, r).Next()
	if err, ok := out.(error); ok {
		return nil, failed("%s", err)
	}
	return out, nil
}

// jqOperators are jq's own, for operands that are not both numbers.
var jqOperators = sync.OnceValue(func() map[string]*gojq.Code {
	out := map[string]*gojq.Code{}
	for _, operator := range []string{"+", "-", "*", "/", "%"} {
		query, err := gojq.Parse("$l " + operator + " $r")
		if err != nil {
			panic(err)
		}
		if out[operator], err = gojq.Compile(query, gojq.WithVariables([]string{"$l", "$r"})); err != nil {
			panic(err)
		}
	}
	return out
})

// bounded reports an operation whose result would be too large.
func bounded(operator string, l, r any) error {
	size := func(v any) int {
		switch v := v.(type) {
		case string:
			return len(v)
		case []any:
			return len(v) * (MaxBytes / maxLength)
		}
		return 0
	}
	n := size(l) + size(r)
	if times, ok := gojq.ToFloat64(r); ok && operator == "*" {
		n = int(min(float64(n)*max(times, 0), 2*MaxBytes))
	}
	if times, ok := gojq.ToFloat64(l); ok && operator == "*" {
		n = int(min(float64(n)*max(times, 0), 2*MaxBytes))
	}
	if n > MaxBytes {
		return failed("`%s` would make a value of more than %d bytes or %d elements", operator, MaxBytes, maxLength)
	}
	return nil
}

// calculate is an operator on numbers.
func calculate(operator string, l, r any) (any, error) {
	a, err := decimalOf(l)
	if err != nil {
		return nil, err
	}
	b, err := decimalOf(r)
	if err != nil {
		return nil, err
	}
	if b.IsZero() && (operator == "/" || operator == "%") {
		return nil, failed("%s %s %s: division by zero", a, operator, b)
	}
	var out decimal.Decimal
	switch operator {
	case "+":
		out = a.Add(b)
	case "-":
		out = a.Sub(b)
	case "*":
		out = a.Mul(b)
	case "/":
		// A quotient that ends does so within as many places as these: each factor 2 or 5 of the divisor needs one.
		places := max(0, -a.Exponent()) + max(0, b.Exponent()) + int32(b.Coefficient().BitLen()) + 1 //nolint:gosec // bounded above
		if out = a.DivRound(b, places); !out.Mul(b).Equal(a) {
			return nil, inexact("%s divided by %s has digits without end", a, b)
		}
	case "%":
		if !a.IsInteger() || !b.IsInteger() {
			return nil, inexact("%s %% %s would drop the digits after the point", a, b)
		}
		out = a.Mod(b)
	}
	return json.Number(out.String()), nil
}

// date is todate. It keeps the fraction of a second, which jq drops.
func date(v any) (any, error) {
	d, err := decimalOf(v)
	if err != nil {
		return nil, err
	}
	nanos := d.Shift(9)
	if !nanos.IsInteger() {
		return nil, inexact("%s seconds have more than nine digits after the point", d)
	}
	if d.Sign() < 0 || d.GreaterThanOrEqual(decimal.NewFromInt(253402300800)) {
		return nil, failed("todate: %s seconds are not in the years 1970 to 9999", shortened(d.String()))
	}
	seconds := d.IntPart()
	return time.Unix(seconds, nanos.Sub(decimal.NewFromInt(seconds).Shift(9)).IntPart()).UTC().Format(time.RFC3339Nano), nil
}
