package providers_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kelseyhightower/envconfig"
	"github.com/stretchr/testify/require"

	"marketdata/shared/fault"
	"marketdata/shared/market"
	"marketdata/shared/market/providers"
)

// fromEnvironment clears the providers' variables, sets the given ones, and loads the config.
func fromEnvironment(t *testing.T, given map[string]string) providers.Config {
	t.Helper()
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		if strings.HasSuffix(name, "_BASE_URL") || strings.HasSuffix(name, "_API_KEY") || strings.HasSuffix(name, "_API_KEY_FILE") || name == "ALPHA_VANTAGE_ENTITLEMENT" || name == "PROVIDER_TIMEOUT" {
			t.Setenv(name, "") // restores it at the end
			require.NoError(t, os.Unsetenv(name))
		}
	}
	for name, value := range given {
		t.Setenv(name, value)
	}
	var c providers.Config
	c.Load()
	require.NoError(t, envconfig.Process("", &c))
	return c
}

func TestKeysFromFiles(t *testing.T) { //nolint:paralleltest // touches the environment
	path := filepath.Join(t.TempDir(), "finnhub")
	require.NoError(t, os.WriteFile(path, []byte("hunter2\n"), 0o600))
	c := fromEnvironment(t, map[string]string{"FINNHUB_API_KEY_FILE": path})
	require.NoError(t, c.Validate())
	require.Equal(t, "hunter2", string(c.Each["finnhub"].APIKey))
	c = fromEnvironment(t, map[string]string{"FINNHUB_API_KEY_FILE": path, "FINNHUB_API_KEY": "hunter2", "TWELVE_DATA_API_KEY_FILE": path + "x"})
	err := c.Validate()
	require.ErrorContains(t, err, "FINNHUB_API_KEY and FINNHUB_API_KEY_FILE are both set")
	require.ErrorContains(t, err, "TWELVE_DATA_API_KEY_FILE: open "+path+"x: no such file or directory")
	require.NotContains(t, err.Error(), "hunter2")
}

func TestAllProvidersExistByDefault(t *testing.T) { //nolint:paralleltest // touches the environment
	c := fromEnvironment(t, nil)
	require.NoError(t, c.Validate())
	names := []string{"yfinance", "alpha_vantage", "finnhub", "twelve_data", "binance", "coinbase"}
	require.Equal(t, names, market.Providers())
	all := providers.New(c)
	require.Len(t, all, len(market.Catalog))
	for _, l := range market.Catalog {
		require.Contains(t, all, l.Name)
		require.Equal(t, l.Name, all[l.Name].Name())
		require.Equal(t, l.BaseURL, c.Each[l.Name].BaseURL)
		if l.Key {
			_, _, err := all[l.Name].Latest(t.Context(), "AAPL")
			require.Equal(t, "provider_auth", fault.CodeOf(err), "without its key it is not called")
		}
	}
}

func TestValidateReportsAllErrorsWithoutValues(t *testing.T) { //nolint:paralleltest // touches the environment
	c := fromEnvironment(t, map[string]string{
		"PROVIDER_TIMEOUT": "0s", "YFINANCE_BASE_URL": "", "ALPHA_VANTAGE_BASE_URL": "http://user:hunter2@host", "FINNHUB_BASE_URL": "ftp://hunter2",
		"TWELVE_DATA_BASE_URL": "http://h/?hunter2", "BINANCE_BASE_URL": "hunter2", "COINBASE_BASE_URL": "http://\x7fhunter2",
		"ALPHA_VANTAGE_API_KEY": "hunter2\n", "FINNHUB_API_KEY": "hunter2 hunter2", "TWELVE_DATA_API_KEY": "hünter2",
		"ALPHA_VANTAGE_ENTITLEMENT": "hunter2",
	})
	err := c.Validate()
	require.Error(t, err)
	lines := strings.Split(err.Error(), "\n")
	require.Len(t, lines, 11)
	for i, variable := range []string{"PROVIDER_TIMEOUT", "ALPHA_VANTAGE_ENTITLEMENT", "YFINANCE_BASE_URL", "ALPHA_VANTAGE_BASE_URL", "ALPHA_VANTAGE_API_KEY", "FINNHUB_BASE_URL"} {
		require.Contains(t, lines[i], variable, "always in this order")
	}
	for _, variable := range []string{"PROVIDER_TIMEOUT", "TWELVE_DATA_API_KEY", "ALPHA_VANTAGE_ENTITLEMENT"} {
		require.Contains(t, err.Error(), variable)
	}
	for _, name := range market.Providers() {
		require.Contains(t, err.Error(), strings.ToUpper(name)+"_BASE_URL")
	}
	require.NotContains(t, err.Error(), "nter2")
}

// A variable without the prefix of a provider belongs to another program.
func TestVariablesWithoutPrefixAreIgnored(t *testing.T) { //nolint:paralleltest // touches the environment
	c := fromEnvironment(t, map[string]string{"API_KEY": "stray", "BASE_URL": "http://stray", "YFINANCE_API_KEY": "stray", "FINNHUB_API_KEY": "mine"})
	require.NoError(t, c.Validate())
	for name, s := range c.Each {
		require.NotContains(t, string(s.APIKey), "stray", name)
		require.NotContains(t, s.BaseURL, "stray", name)
	}
	require.Equal(t, "mine", string(c.Each["finnhub"].APIKey))
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
