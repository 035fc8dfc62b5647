package binance

import (
	"testing"
	"time"

	"marketdata/shared/market"
	"marketdata/shared/market/conformance"
	"marketdata/shared/market/upstream"
)

func FuzzBars(f *testing.F) {
	conformance.FuzzBars(f, func(a upstream.Answer) ([]market.Bar, error) {
		h, err := parseBars("BTCUSDT", market.Minute, time.Unix(0, 0), time.Now(), a)
		return h.Bars, err
	})
}

func FuzzQuotes(f *testing.F) { conformance.FuzzQuotes(f, Name, parse) }
