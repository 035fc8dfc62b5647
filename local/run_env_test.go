package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

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
}
