package coinbase

import (
	"testing"
	"time"

	"marketdata/shared/market"
	"marketdata/shared/market/conformance"
	"marketdata/shared/market/upstream"
)

func FuzzBars(f *testing.F) {
	conformance.FuzzBars(f, func(a upstream.Answer) ([]market.Bar, error) {
		return parseBars("BTC-USD", time.Minute, a)
	})
}

func FuzzQuotes(f *testing.F) { conformance.FuzzQuotes(f, Name, parse) }
