package transform

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// order is jq's order of types.
func order(v any) int {
	switch v := v.(type) {
	case nil:
		return 0
	case bool:
		if v {
			return 2
		}
		return 1
	case string:
		return 4
	case []any:
		return 5
	case map[string]any:
		return 6
	}
	return 3
}

// compare is jq's order of values, with exact numbers. steps counts the values that were looked at.
func compare(l, r any, steps *int) (int, error) {
	if *steps++; *steps > maxSteps {
		return 0, failed("the values are too large to be compared")
	}
	if c := cmp.Compare(order(l), order(r)); c != 0 {
		return c, nil
	}
	switch l := l.(type) {
	case nil, bool:
		return 0, nil
	case string:
		return strings.Compare(l, r.(string)), nil //nolint:forcetypeassert // the same type
	case []any:
		return compareArrays(l, r.([]any), steps) //nolint:forcetypeassert // the same type
	case map[string]any:
		return compareObjects(l, r.(map[string]any), steps) //nolint:forcetypeassert // the same type
	}
	a, err := decimalOf(l)
	if err != nil {
		return 0, err
	}
	b, err := decimalOf(r)
	return a.Cmp(b), err
}

func compareArrays(l, r []any, steps *int) (int, error) {
	for i := range min(len(l), len(r)) {
		if c, err := compare(l[i], r[i], steps); c != 0 || err != nil {
			return c, err
		}
	}
	return cmp.Compare(len(l), len(r)), nil
}

// compareObjects compares first the sorted names, then the values.
func compareObjects(l, r map[string]any, steps *int) (int, error) {
	names, others := slices.Sorted(maps.Keys(l)), slices.Sorted(maps.Keys(r))
	if c := slices.Compare(names, others); c != 0 {
		return c, nil
	}
	for _, name := range names {
		if c, err := compare(l[name], r[name], steps); c != 0 || err != nil {
			return c, err
		}
	}
	return 0, nil
}
