package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// A setting that cannot work is refused at start, by name and with what would do: not by every request afterwards.
func TestSettingsThatCannotWorkAreRefusedAtStart(t *testing.T) {
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
		{"MA_WINDOWS", "5,x", "MA_WINDOWS: "},
		{"MA_WINDOWS", "0", "MA_WINDOWS: 0 is repeated or not within"},
		{"MAX_EVENT_BYTES", "0", "MAX_EVENT_BYTES"},
		{"MAX_EVENT_BYTES", "99999999999", "MAX_EVENT_BYTES: 99999999999 is not within 1 to 67108864"},
		{"MAX_EVENT_BYTES", "1MB", `MAX_EVENT_BYTES: "1MB" is not a whole number`},
	} {
		t.Run(fault.variable+"="+fault.value, func(t *testing.T) {
			t.Setenv(fault.variable, fault.value)
			_, err := loadConfig()
			require.ErrorContains(t, err, fault.want)
		})
	}
}

func TestConfigReportsEveryFault(t *testing.T) {
	t.Parallel()
	err := config{Windows: []int{0, 51, 5, 5}}.Validate()
	for _, text := range []string{"DATABASE_URL", "REDIS_URL", "RATE_LIMIT_TIMEOUT", "KAFKA_BOOTSTRAP_SERVERS", "MA_WINDOWS: 0", "MA_WINDOWS: 51", "MA_WINDOWS: 5 ", "MAX_EVENT_BYTES", "SHUTDOWN_TIMEOUT"} {
		require.ErrorContains(t, err, text)
	}
}
