package transform

import (
	"encoding/json"
	"strconv"

	"github.com/itchyny/gojq"
	"github.com/shopspring/decimal"
)

// each calls f for every value in v that is neither array nor object, and reports whether there were few enough.
func each(v any, steps *int, f func(v any) error) error {
	if *steps++; *steps > maxSteps {
		return failed("the value is too large")
	}
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			if err := each(e, steps, f); err != nil {
				return err
			}
		}
		return nil
	case map[string]any:
		for name, e := range v {
			if err := each(name, steps, f); err != nil {
				return err
			}
			if err := each(e, steps, f); err != nil {
				return err
			}
		}
		return nil
	}
	return f(v)
}

// guardedNumbers reports a number that floating point has no equal of.
func guardedNumbers(v any) error {
	return each(v, new(int), func(v any) error {
		if !isNumber(v) {
			return nil
		}
		d, err := decimalOf(v)
		if err != nil {
			return err
		}
		if f, err := strconv.ParseFloat(d.String(), 64); err != nil || !decimal.NewFromFloat(f).Equal(d) {
			return inexact("%s has more digits than it can read", shortened(d.String()))
		}
		return nil
	})
}

// wholeNumbers reports a number that is not an integer, or too large for one of 53 bits.
func wholeNumbers(v any) error {
	return each(v, new(int), func(v any) error {
		if !isNumber(v) {
			return nil
		}
		d, err := decimalOf(v)
		if err == nil && (!d.IsInteger() || d.Abs().GreaterThan(decimal.NewFromInt(1<<53))) {
			err = inexact("%s is not a whole number that it can read", shortened(d.String()))
		}
		return err
	})
}

// positions reports an index, or one in a path, that would make an array too large.
func positions(v any) error {
	return each(v, new(int), func(v any) error {
		if i, ok := gojq.ToInt(v); ok && i > maxLength {
			return failed("index %d is too large", i)
		}
		return nil
	})
}

// small reports whether a value has no more than MaxBytes in JSON, approximately.
func small(v any) bool {
	bytes := 0
	return each(v, new(int), func(v any) error {
		switch v := v.(type) {
		case string:
			bytes += len(v) + 3
		case json.Number:
			bytes += len(v) + 1
		default:
			bytes++
		}
		if bytes > MaxBytes {
			return errTooLarge
		}
		return nil
	}) == nil
}
