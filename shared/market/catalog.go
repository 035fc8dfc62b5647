package market

import "slices"

// Listing describes a provider of this installation. Configuration, documentation and tests derive from it. The adapter is in a
// subfolder of package market; package providers creates it.
type Listing struct {
	Name    string // in the API and in events; in upper case, the prefix of its variables
	BaseURL string // default of <NAME>_BASE_URL
	Key     bool   // needs <NAME>_API_KEY
	Budget  string // default of <NAME>_BUDGET: the limits of the free plan, or far below those per address
	Cost    int    // units of the budget that one call costs, for a quote or for bars: binance counts weight, twelve_data credits
	// Adjusts means that a split changes the closes of all bars before it: they are in the shares of the day of the answer.
	Adjusts bool
	Symbols []string
}

// Catalog lists all providers, in the order of the documentation. Read-only.
var Catalog = []Listing{
	{"yfinance", "https://query1.finance.yahoo.com", false, "60/1m", 1, true, []string{"AAPL", "^GSPC", "TSCO.L"}},
	{"alpha_vantage", "https://www.alphavantage.co", true, "1/1s,5/1m,25/1d", 1, false, []string{"AAPL", "TSCO.LON"}},
	{"finnhub", "https://finnhub.io", true, "60/1m", 1, false, []string{"AAPL", "BINANCE:BTCUSDT"}},
	{"twelve_data", "https://api.twelvedata.com", true, "8/1m,800/1d", 1, true, []string{"AAPL", "BTC/USD"}},
	{"binance", "https://api.binance.com", false, "1200/1m", 2, false, []string{"BTCUSDT"}},
	{"coinbase", "https://api.exchange.coinbase.com", false, "10/1s", 1, false, []string{"BTC-USD"}},
}

// Adjusts reports whether a split changes the closes of the provider's bars, see [Listing]; false for an unknown provider.
func Adjusts(provider string) bool {
	return slices.ContainsFunc(Catalog, func(l Listing) bool { return l.Name == provider && l.Adjusts })
}

// Providers returns the names of all providers, in the order of the documentation.
func Providers() []string {
	names := make([]string, len(Catalog))
	for i, l := range Catalog {
		names[i] = l.Name
	}
	return names
}
