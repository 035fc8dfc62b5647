package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/shared/testenv/settings"
)

var ownFaults = []settings.Fault{
	{"REDIS_URL", "", "REDIS_URL is not set"},
	{"RATE_LIMIT_POLL", "-5/1m", "RATE_LIMIT_POLL"},
	{"RATE_LIMIT_POLL", "ten a minute", "RATE_LIMIT_POLL"},
	{"RAW_RETENTION", "1m", "RAW_RETENTION: 1m0s is not within"},
	{"RUNS_RETENTION", "-1h", "RUNS_RETENTION: -1h0m0s is not within"},
}

func TestInvalidSettingsFailTheStart(t *testing.T) { //nolint:paralleltest // it sets the environment
	settings.Refused(t, loadConfig, settings.Common, settings.Provider, settings.Prices, ownFaults)
}

func TestFaultsOfSettingsAreReportedInOrder(t *testing.T) { //nolint:paralleltest // it sets the environment
	settings.Ordered(t, loadConfig, []string{
		"SHUTDOWN_TIMEOUT", "DATABASE_URL", "REDIS_URL", "KAFKA_BOOTSTRAP_SERVERS", "RATE_LIMIT_TIMEOUT", "MAX_COPIES", "TRUSTED_PROXIES", "API_KEYS",
		"RATE_LIMIT_DEFAULT", "PROVIDER_TIMEOUT", "ALPHA_VANTAGE_BUDGET", "RATE_LIMIT_POLL", "DEFAULT_PROVIDER", "PROVIDER_CHAIN", "CACHE_TTL", "STALE_TTL",
		"RAW_RETENTION", "RUNS_RETENTION",
	}, settings.Common, settings.Provider, settings.Prices, ownFaults)
}

func TestConfig(t *testing.T) {
	settings.Set(t)
	t.Setenv("RATE_LIMIT_POLL", "20/1m")
	t.Setenv("YFINANCE_BUDGET", "off")
	c, err := loadConfig()
	require.NoError(t, err)
	require.Equal(t, "coinbase", c.DefaultProvider)
	require.Equal(t, "20/1m", c.PollLimit.String())
	require.Equal(t, "1200/1m", c.Backing.Limits.Default.String())
	require.Equal(t, 50*time.Millisecond, c.Backing.Limits.Timeout)
}
