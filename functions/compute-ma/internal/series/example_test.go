package series_test

import (
	"fmt"

	"github.com/shopspring/decimal"

	"marketdata/functions/compute-ma/internal/series"
)

// A mean is exact to the last digit if its decimal expansion ends; otherwise it is rounded 12 places behind the prices' digits.
func ExampleMean() {
	mean := func(prices ...string) series.Value {
		var values []series.Value
		for _, p := range prices {
			values = append(values, series.NewValue(decimal.RequireFromString(p)))
		}
		return series.Mean(values)
	}
	fmt.Println(mean("0.1", "0.2"))
	fmt.Println(mean("99999999999999999999.999999999999999999", "1"))
	fmt.Println(mean("1", "1", "2"))
	// Output:
	// 0.15
	// 50000000000000000000.4999999999999999995
	// 1.333333333333
}
