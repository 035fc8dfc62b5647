package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"marketdata/local/services"
)

// What the local runtime read from a file reaches the functions as a variable, not as both.
func TestSecretsFromFilesReachTheFunctions(t *testing.T) {
	t.Chdir(t.TempDir()) // no .env
	for _, name := range []string{"DATABASE_URL", "REDIS_URL", "DLQ_TOKEN"} {
		path := filepath.Join(t.TempDir(), name)
		require.NoError(t, os.WriteFile(path, []byte("secret of "+name+"\n"), 0o600))
		t.Setenv(name, "")
		t.Setenv(name+"_FILE", path)
	}
	t.Setenv("POLL_DATABASE_URL", "secret of poll")
	t.Setenv("LOCAL_STACK", "")
	cfg, err := loadConfig()
	require.NoError(t, err)
	require.Equal(t, []string{"secret of DATABASE_URL", "secret of REDIS_URL", "secret of DLQ_TOKEN"}, []string{cfg.DatabaseURL, cfg.RedisURL, cfg.DLQToken})
	last := map[string]string{}
	for _, v := range functionEnv(cfg, services.Addresses{DatabaseURL: cfg.DatabaseURL}, cfg.DLQToken, "", "") {
		name, value, _ := strings.Cut(v, "=")
		last[name] = value // the last one counts
	}
	require.Equal(t, "secret of DATABASE_URL", last["DATABASE_URL"])
	require.NotContains(t, last, "POLL_DATABASE_URL", "no function gets the URL of another")
	require.Empty(t, last["DATABASE_URL_FILE"])
	require.Empty(t, last["REDIS_URL_FILE"])
	require.Empty(t, last["DLQ_TOKEN_FILE"])
}

func TestExchangeEnv(t *testing.T) {
	t.Parallel()
	const base = "http://127.0.0.1:9000"
	require.Equal(t, []string{
		"YFINANCE_BASE_URL=" + base + "/yfinance",
		"ALPHA_VANTAGE_BASE_URL=" + base + "/alpha_vantage", "ALPHA_VANTAGE_API_KEY=" + localKey,
		"FINNHUB_BASE_URL=" + base + "/finnhub", "FINNHUB_API_KEY=" + localKey,
		"TWELVE_DATA_BASE_URL=" + base + "/twelve_data", "TWELVE_DATA_API_KEY=" + localKey,
		"BINANCE_BASE_URL=" + base + "/binance", "COINBASE_BASE_URL=" + base + "/coinbase",
	}, exchangeEnv([]string{"PATH=/bin", "YFINANCE_BASE_URL=", "FINNHUB_API_KEY="}, base), "an empty variable counts as unset")

	env := exchangeEnv([]string{"FINNHUB_BASE_URL=http://mine", "ALPHA_VANTAGE_API_KEY=mine"}, base)
	require.NotContains(t, env, "FINNHUB_BASE_URL="+base+"/finnhub", "the base URL of the environment wins")
	require.NotContains(t, env, "FINNHUB_API_KEY="+localKey, "a provider with its own base URL gets no key")
	require.Contains(t, env, "ALPHA_VANTAGE_BASE_URL="+base+"/alpha_vantage")
	require.NotContains(t, env, "ALPHA_VANTAGE_API_KEY="+localKey, "the key of the environment wins")

	env = exchangeEnv([]string{"ALPHA_VANTAGE_API_KEY_FILE=/run/secrets/key"}, base)
	require.NotContains(t, env, "ALPHA_VANTAGE_API_KEY="+localKey, "and so does the key in a file")
}
