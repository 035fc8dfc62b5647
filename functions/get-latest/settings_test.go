package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// An invalid setting fails the start, not every request afterwards; the error names it and says what is allowed.
func TestInvalidSettingsFailTheStart(t *testing.T) {
	for name, value := range map[string]string{
		"DATABASE_URL": "postgres://localhost/x", "REDIS_URL": "redis://localhost", "KAFKA_BOOTSTRAP_SERVERS": "localhost:9092",
		"DEFAULT_PROVIDER": "coinbase", "API_KEYS": "", "TRUSTED_PROXIES": "",
	} {
		t.Setenv(name, value)
	}
	c, err := loadConfig()
	require.NoError(t, err)
	require.Equal(t, "coinbase", c.DefaultProvider)
	for _, fault := range []struct{ variable, value, want string }{
		{"DEFAULT_PROVIDER", "yahoo", `DEFAULT_PROVIDER: unknown provider "yahoo" (one of yfinance, alpha_vantage, finnhub, twelve_data, binance, coinbase)`},
		{"DEFAULT_PROVIDER", "auto", `DEFAULT_PROVIDER: unknown provider "auto"`},
		{"DEFAULT_PROVIDER", "YFINANCE", `DEFAULT_PROVIDER: unknown provider "YFINANCE"`},
		{"DEFAULT_PROVIDER", "", `DEFAULT_PROVIDER: unknown provider ""`},
		{"LOG_LEVEL", "loud", "LOG_LEVEL: "},
		{"SHUTDOWN_TIMEOUT", "-1s", "SHUTDOWN_TIMEOUT: -1s is not within"},
		{"RATE_LIMIT_TIMEOUT", "0s", "RATE_LIMIT_TIMEOUT: 0s is not within"},
		{"RATE_LIMIT_DEFAULT", "99999999999999999999/1m", "RATE_LIMIT_DEFAULT"},
		{"MAX_COPIES", "-1", "MAX_COPIES: -1 is not within"},
		{"CACHE_TTL", "0s", "CACHE_TTL: 0s is not within"},
		{"CACHE_TTL", "-5m", "CACHE_TTL: -5m0s is not within"},
		{"CACHE_TTL", "60", "CACHE_TTL: \"60\" is not a duration"},
		{"CACHE_TTL", "2562047h", "CACHE_TTL: "},
		{"CACHE_TTL", "99999999999h", "CACHE_TTL: "},
		{"STALE_TTL", "30s", "STALE_TTL: 30s is not within 1m0s to"},
		{"PROVIDER_TIMEOUT", "0s", "PROVIDER_TIMEOUT: 0s is not within"},
		{"PROVIDER_TIMEOUT", "2562047h", "PROVIDER_TIMEOUT: "},
		{"PROVIDER_CHAIN", "yfinance,yahoo", `PROVIDER_CHAIN: unknown provider "yahoo" (one of yfinance, `},
		{"PROVIDER_CHAIN", "auto", `PROVIDER_CHAIN: unknown provider "auto"`},
		{"PROVIDER_CHAIN", "yfinance,", `PROVIDER_CHAIN: unknown provider ""`},
		{"RATE_LIMIT_LATEST", "5", "RATE_LIMIT_LATEST"},
	} {
		t.Run(fault.variable+"="+fault.value, func(t *testing.T) {
			t.Setenv(fault.variable, fault.value)
			_, err := loadConfig()
			require.ErrorContains(t, err, fault.want)
		})
	}
}
