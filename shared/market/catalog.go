package market

// Listing describes a provider of this installation: what configuration, documentation and tests derive from. Its adapter is in the
// folder of package market with its name; package providers knows how to make it.
type Listing struct {
	Name    string // in the API and in events; in upper case, the prefix of its variables
	BaseURL string // default of <NAME>_BASE_URL
	Key     bool   // it needs <NAME>_API_KEY
	Budget  string // default of <NAME>_BUDGET: what the free plan allows, or far below what an address is allowed
	Symbols []string
}

// Catalog lists every provider, in the order of the documentation. Read only.
var Catalog = []Listing{
	{"yfinance", "https://query1.finance.yahoo.com", false, "60/1m", []string{"AAPL", "^GSPC", "TSCO.L"}},
	{"alpha_vantage", "https://www.alphavantage.co", true, "1/1s,5/1m,25/1d", []string{"AAPL", "TSCO.LON"}},
	{"finnhub", "https://finnhub.io", true, "60/1m", []string{"AAPL", "BINANCE:BTCUSDT"}},
	{"twelve_data", "https://api.twelvedata.com", true, "8/1m,800/1d", []string{"AAPL", "BTC/USD"}},
	{"binance", "https://api.binance.com", false, "1200/1m", []string{"BTCUSDT"}},
	{"coinbase", "https://api.exchange.coinbase.com", false, "10/1s", []string{"BTC-USD"}},
}

// Providers returns the names of all providers, in the order of the documentation.
func Providers() []string {
	names := make([]string, len(Catalog))
	for i, l := range Catalog {
		names[i] = l.Name
	}
	return names
}
