package finnhub

import (
	"testing"

	"marketdata/shared/market/conformance"
)

func FuzzQuotes(f *testing.F) { conformance.FuzzQuotes(f, Name, parse) }
