package providers_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/kelseyhightower/envconfig"
	"github.com/stretchr/testify/require"

	"marketdata/shared/fault"
	"marketdata/shared/market"
	"marketdata/shared/market/providers"
)

// fromEnvironment clears what this machine has set for providers, and sets what is given.
func fromEnvironment(t *testing.T, given map[string]string) providers.Config {
	t.Helper()
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		if strings.HasSuffix(name, "_BASE_URL") || strings.HasSuffix(name, "_API_KEY") || name == "ALPHA_VANTAGE_ENTITLEMENT" || name == "PROVIDER_TIMEOUT" {
			t.Setenv(name, "") // restores it at the end
			require.NoError(t, os.Unsetenv(name))
		}
	}
	for name, value := range given {
		t.Setenv(name, value)
	}
	var c providers.Config
	require.NoError(t, envconfig.Process("", &c))
	return c
}

func TestEveryProviderIsThereByDefault(t *testing.T) { //nolint:paralleltest // touches the environment
	c := fromEnvironment(t, nil)
	require.NoError(t, c.Validate())
	names := []string{"yfinance", "alpha_vantage", "finnhub", "twelve_data", "binance", "coinbase"}
	require.Equal(t, names, providers.Names())
	require.Equal(t, names, market.Providers(), "what functions without adapters take for known")
	all := providers.New(c)
	require.Len(t, all, len(names))
	for _, name := range names {
		require.Equal(t, name, all[name].Name())
	}
	for _, name := range []string{"alpha_vantage", "finnhub", "twelve_data"} {
		_, _, err := all[name].Latest(t.Context(), "AAPL")
		require.Equal(t, "provider_auth", fault.CodeOf(err), "without its key it is not called")
	}
}

func TestFaultsAreReportedAtOnceAndShowNoValue(t *testing.T) { //nolint:paralleltest // touches the environment
	c := fromEnvironment(t, map[string]string{
		"PROVIDER_TIMEOUT": "0s", "YFINANCE_BASE_URL": "", "ALPHA_VANTAGE_BASE_URL": "http://user:hunter2@host", "FINNHUB_BASE_URL": "ftp://hunter2",
		"TWELVE_DATA_BASE_URL": "http://h/?hunter2", "BINANCE_BASE_URL": "hunter2", "COINBASE_BASE_URL": "http://\x7fhunter2",
		"ALPHA_VANTAGE_API_KEY": "hunter2\n", "FINNHUB_API_KEY": "hunter2 hunter2", "TWELVE_DATA_API_KEY": "hünter2",
		"ALPHA_VANTAGE_ENTITLEMENT": "hunter2",
	})
	err := c.Validate()
	require.Error(t, err)
	require.Len(t, strings.Split(err.Error(), "\n"), 11)
	for _, variable := range []string{"PROVIDER_TIMEOUT", "TWELVE_DATA_API_KEY", "ALPHA_VANTAGE_ENTITLEMENT"} {
		require.Contains(t, err.Error(), variable)
	}
	for _, name := range providers.Names() {
		require.Contains(t, err.Error(), strings.ToUpper(name)+"_BASE_URL")
	}
	require.NotContains(t, err.Error(), "nter2")
}

func TestKeysDoNotPrint(t *testing.T) { //nolint:paralleltest // touches the environment
	c := fromEnvironment(t, map[string]string{
		"ALPHA_VANTAGE_API_KEY": "hunter2", "FINNHUB_API_KEY": "hunter2", "TWELVE_DATA_API_KEY": "hunter2",
	})
	require.NoError(t, c.Validate())
	config := struct{ Providers providers.Config }{c} // as the functions hold it
	all := providers.New(c)
	require.NotContains(t, fmt.Sprintf("%v %+v %#v %v %+v %#v", config, config, config, all, all, all), "hunter2")
}

func TestChain(t *testing.T) {
	t.Parallel()
	require.Equal(t, []string{"coinbase", "alpha_vantage", "binance", "finnhub", "twelve_data", "yfinance"}, providers.Chain(nil, "coinbase"))
	require.Equal(t, []string{"yfinance", "finnhub"}, providers.Chain([]string{"yfinance", "finnhub"}, "coinbase"))
}
