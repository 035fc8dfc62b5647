package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestConfig(t *testing.T) { //nolint:paralleltest // it sets the environment
	for name, value := range map[string]string{
		"DATABASE_URL": "postgres://localhost/x", "REDIS_URL": "redis://localhost", "KAFKA_BOOTSTRAP_SERVERS": "localhost:9092",
		"RATE_LIMIT_POLL": "20/1m", "YFINANCE_BUDGET": "off", "TRUSTED_PROXIES": "", "API_KEYS": "",
	} {
		t.Setenv(name, value)
	}
	c, err := loadConfig()
	require.NoError(t, err)
	require.Equal(t, "20/1m", c.PollLimit.String())
	require.Equal(t, "1200/1m", c.Backing.Limits.Default.String())
	require.Equal(t, 50*time.Millisecond, c.Backing.Limits.Timeout)

	faults := map[string]string{
		"RATE_LIMIT_POLL": "ten a minute", "RATE_LIMIT_DEFAULT": "0/1m", "RATE_LIMIT_TIMEOUT": "-1s", "MAX_COPIES": "0",
		"TRUSTED_PROXIES": "banana", "API_KEYS": "alice:hunter2", "ALPHA_VANTAGE_BUDGET": "lots", "DATABASE_URL": "",
	}
	for name, value := range faults {
		t.Setenv(name, value)
	}
	_, err = loadConfig()
	for name := range faults {
		require.ErrorContains(t, err, name)
	}
	require.NotContains(t, err.Error(), "hunter2")
}
