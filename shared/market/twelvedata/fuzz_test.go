package twelvedata

import (
	"testing"

	"marketdata/shared/market"
	"marketdata/shared/market/conformance"
	"marketdata/shared/market/upstream"
)

func FuzzBars(f *testing.F) {
	conformance.FuzzBars(f, func(a upstream.Answer) ([]market.Bar, error) {
		return parseBars("AAPL", market.Day, a)
	})
}

func FuzzQuotes(f *testing.F) { conformance.FuzzQuotes(f, Name, parse) }
