package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/shared/testenv/settings"
)

var ownFaults = []settings.Fault{
	{"COMPUTE_MA_URL", "compute-ma:8080", "COMPUTE_MA_URL"},
	{"COMPUTE_MA_URL", "ftp://compute-ma", "COMPUTE_MA_URL"},
	{"DLQ_TOKENS", "alice", "DLQ_TOKENS: entry 1"},
	{"MAX_REPLAYS", "0", "MAX_REPLAYS"},
	{"MAX_REPLAYS", "three", `MAX_REPLAYS: "three" is not a whole number`},
	{"DLQ_RETENTION", "59m", "DLQ_RETENTION: 59m0s is not within 1h0m0s to"},
	{"DLQ_RETENTION", "90 days", `DLQ_RETENTION: "90 days" is not a duration`},
}

func TestInvalidSettingsFailTheStart(t *testing.T) { //nolint:paralleltest // it sets the environment
	settings.Refused(t, loadConfig, settings.Common, ownFaults)
}

func TestFaultsOfSettingsAreReportedInOrder(t *testing.T) { //nolint:paralleltest // it sets the environment
	settings.Ordered(t, loadConfig, []string{
		"SHUTDOWN_TIMEOUT", "DATABASE_URL", "KAFKA_BOOTSTRAP_SERVERS", "RATE_LIMIT_TIMEOUT", "MAX_COPIES", "TRUSTED_PROXIES", "API_KEYS",
		"RATE_LIMIT_DEFAULT", "COMPUTE_MA_URL", "DLQ_TOKENS", "MAX_REPLAYS", "DLQ_RETENTION",
	}, settings.Common, ownFaults)
}

func TestConfig(t *testing.T) {
	settings.Set(t)
	t.Setenv("REDIS_URL", "") // each replica limits alone
	c, err := loadConfig()
	require.NoError(t, err)
	require.Equal(t, 3, c.MaxReplays)
	require.Equal(t, 90*24*time.Hour, c.Retention)
}
