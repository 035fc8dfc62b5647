package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"marketdata/shared/testenv/settings"
)

var ownFaults = []settings.Fault{
	{"REDIS_URL", "", "REDIS_URL is not set"},
	{"RATE_LIMIT_LATEST", "5", "RATE_LIMIT_LATEST"},
}

func TestInvalidSettingsFailTheStart(t *testing.T) { //nolint:paralleltest // it sets the environment
	settings.Refused(t, loadConfig, settings.Common, settings.Provider, settings.Prices, ownFaults)
}

func TestFaultsOfSettingsAreReportedInOrder(t *testing.T) { //nolint:paralleltest // it sets the environment
	settings.Ordered(t, loadConfig, []string{
		"SHUTDOWN_TIMEOUT", "DATABASE_URL", "REDIS_URL", "KAFKA_BOOTSTRAP_SERVERS", "RATE_LIMIT_TIMEOUT", "MAX_COPIES", "TRUSTED_PROXIES", "API_KEYS",
		"RATE_LIMIT_DEFAULT", "PROVIDER_TIMEOUT", "ALPHA_VANTAGE_BUDGET", "RATE_LIMIT_LATEST", "DEFAULT_PROVIDER", "PROVIDER_CHAIN", "CACHE_TTL", "STALE_TTL",
	}, settings.Common, settings.Provider, settings.Prices, ownFaults)
}

func TestConfig(t *testing.T) { //nolint:paralleltest // it sets the environment
	settings.Set(t)
	c, err := loadConfig()
	require.NoError(t, err)
	require.Equal(t, "coinbase", c.DefaultProvider)
}
