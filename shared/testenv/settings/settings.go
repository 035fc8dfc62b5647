// Package settings checks how functions refuse settings that cannot work.
package settings

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Fault is a value that a setting cannot have, and the beginning of what the error says about it. It is an alias so that vet lets
// the rows of tables be written without field names.
type Fault = struct{ Variable, Value, Want string }

// Common are faults that every function refuses.
var Common = []Fault{
	{"LOG_LEVEL", "loud", "LOG_LEVEL: "},
	{"SHUTDOWN_TIMEOUT", "-1s", "SHUTDOWN_TIMEOUT: -1s is not within"},
	{"DATABASE_URL", "", "DATABASE_URL is not set"},
	{"KAFKA_BOOTSTRAP_SERVERS", "", "KAFKA_BOOTSTRAP_SERVERS is not set"},
	{"PRICE_EVENTS_TOPIC", "", "PRICE_EVENTS_TOPIC: "},
	{"DEAD_LETTER_TOPIC", "price-events", "DEAD_LETTER_TOPIC is the same as PRICE_EVENTS_TOPIC"},
	{"RATE_LIMIT_TIMEOUT", "0s", "RATE_LIMIT_TIMEOUT: 0s is not within"},
	{"RATE_LIMIT_TIMEOUT", "-1s", "RATE_LIMIT_TIMEOUT: -1s is not within"},
	{"RATE_LIMIT_DEFAULT", "0/1m", "RATE_LIMIT_DEFAULT is not of the form"},
	{"RATE_LIMIT_DEFAULT", "99999999999999999999/1m", "RATE_LIMIT_DEFAULT is not of the form"},
	{"MAX_COPIES", "0", "MAX_COPIES: 0 is not within"},
	{"MAX_COPIES", "-1", "MAX_COPIES: -1 is not within"},
	{"TRUSTED_PROXIES", "banana", `TRUSTED_PROXIES: "banana" is not an address`},
	{"API_KEYS", "alice:hunter2", "API_KEYS: entry 1 is not a name"},
}

// Provider are faults that the functions with a default provider refuse.
var Provider = []Fault{
	{"DEFAULT_PROVIDER", "yahoo", `DEFAULT_PROVIDER: unknown provider "yahoo" (one of yfinance, alpha_vantage, finnhub, twelve_data, binance, coinbase)`},
	{"DEFAULT_PROVIDER", "auto", `DEFAULT_PROVIDER: unknown provider "auto"`},
	{"DEFAULT_PROVIDER", "YFINANCE", `DEFAULT_PROVIDER: unknown provider "YFINANCE"`},
	{"DEFAULT_PROVIDER", "", `DEFAULT_PROVIDER: unknown provider ""`},
}

// Prices are faults that the functions that fetch prices refuse.
var Prices = []Fault{
	{"CACHE_TTL", "0s", "CACHE_TTL: 0s is not within"},
	{"CACHE_TTL", "-5m", "CACHE_TTL: -5m0s is not within"},
	{"CACHE_TTL", "60", `CACHE_TTL: "60" is not a duration`},
	{"CACHE_TTL", "2562047h", "CACHE_TTL: "},
	{"CACHE_TTL", "99999999999h", "CACHE_TTL: "},
	{"STALE_TTL", "-1s", "STALE_TTL: -1s is not within"},
	{"STALE_TTL", "30s", "STALE_TTL: 30s is not within 1m0s to"},
	{"PROVIDER_TIMEOUT", "0s", "PROVIDER_TIMEOUT: 0s is not within"},
	{"PROVIDER_TIMEOUT", "2562047h", "PROVIDER_TIMEOUT: "},
	{"PROVIDER_CHAIN", "yfinance,yahoo", `PROVIDER_CHAIN: unknown provider "yahoo" (one of yfinance, `},
	{"PROVIDER_CHAIN", "auto", `PROVIDER_CHAIN: unknown provider "auto"`},
	{"PROVIDER_CHAIN", "yfinance,", `PROVIDER_CHAIN: unknown provider ""`},
	{"ALPHA_VANTAGE_BUDGET", "lots", "ALPHA_VANTAGE_BUDGET is neither off nor a list"},
}

// Set sets what every function requires, and the default provider to coinbase.
func Set(t *testing.T) {
	t.Helper()
	for name, value := range map[string]string{
		"DATABASE_URL": "postgres://localhost/x", "REDIS_URL": "redis://localhost", "KAFKA_BOOTSTRAP_SERVERS": "localhost:9092",
		"DEFAULT_PROVIDER": "coinbase", "API_KEYS": "", "TRUSTED_PROXIES": "",
	} {
		t.Setenv(name, value)
	}
}

// Refused loads the settings once with each of the faults: an invalid setting fails the start, not every request afterwards, and
// the error names it and says what is allowed.
func Refused[C any](t *testing.T, load func() (C, error), faults ...[]Fault) {
	t.Helper()
	Set(t)
	_, err := load()
	require.NoError(t, err)
	for _, fault := range slices.Concat(faults...) {
		t.Run(fault.Variable+"="+fault.Value, func(t *testing.T) {
			t.Setenv(fault.Variable, fault.Value)
			_, err := load()
			require.ErrorContains(t, err, fault.Want)
			require.NotContains(t, err.Error(), "hunter2")
		})
	}
}

// Ordered loads the settings with the first fault of each variable at once. The error must name the variables in the given order,
// one in each line, and be the same each time.
func Ordered[C any](t *testing.T, load func() (C, error), variables []string, faults ...[]Fault) {
	t.Helper()
	Set(t)
	all := slices.Concat(faults...)
	for _, variable := range variables {
		i := slices.IndexFunc(all, func(f Fault) bool { return f.Variable == variable })
		require.GreaterOrEqual(t, i, 0, variable)
		t.Setenv(variable, all[i].Value)
	}
	_, err := load()
	require.Error(t, err)
	var named []string
	for line := range strings.Lines(err.Error()) {
		named = append(named, line[:strings.IndexFunc(line, func(r rune) bool { return r == ':' || r == ' ' })])
	}
	require.Equal(t, variables, named)
	_, again := load()
	require.EqualError(t, again, err.Error())
}
