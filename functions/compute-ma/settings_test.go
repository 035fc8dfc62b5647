package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"marketdata/shared/testenv/settings"
)

var ownFaults = []settings.Fault{
	{"REDIS_URL", "", "REDIS_URL is not set"},
	{"MA_WINDOWS", "0", "MA_WINDOWS: 0 is repeated or not within"},
	{"MA_WINDOWS", "5,x", "MA_WINDOWS: "},
	{"MAX_EVENT_BYTES", "0", "MAX_EVENT_BYTES: 0 is not within"},
	{"MAX_EVENT_BYTES", "99999999999", "MAX_EVENT_BYTES: 99999999999 is not within 1 to 67108864"},
	{"MAX_EVENT_BYTES", "1MB", `MAX_EVENT_BYTES: "1MB" is not a whole number`},
	{"STREAM_MAX_CLIENTS", "0", "STREAM_MAX_CLIENTS: 0 is not within 1 to"},
	{"STREAM_MAX_CLIENTS", "many", `STREAM_MAX_CLIENTS: "many" is not a whole number`},
	{"STREAM_DURATION", "0s", "STREAM_DURATION: 0s is not within 1s to"},
	{"STREAM_DURATION", "40", `STREAM_DURATION: "40" is not a duration`},
}

func TestInvalidSettingsFailTheStart(t *testing.T) { //nolint:paralleltest // it sets the environment
	settings.Refused(t, loadConfig, settings.Common, settings.Provider, ownFaults)
}

func TestFaultsOfSettingsAreReportedInOrder(t *testing.T) { //nolint:paralleltest // it sets the environment
	settings.Ordered(t, loadConfig, []string{
		"SHUTDOWN_TIMEOUT", "DATABASE_URL", "REDIS_URL", "KAFKA_BOOTSTRAP_SERVERS", "RATE_LIMIT_TIMEOUT", "MAX_COPIES", "TRUSTED_PROXIES", "API_KEYS",
		"RATE_LIMIT_DEFAULT", "DEFAULT_PROVIDER", "MA_WINDOWS", "MAX_EVENT_BYTES", "STREAM_MAX_CLIENTS", "STREAM_DURATION",
	}, settings.Common, settings.Provider, ownFaults)
}

func TestConfig(t *testing.T) { //nolint:paralleltest // it sets the environment
	settings.Set(t)
	c, err := loadConfig()
	require.NoError(t, err)
	require.Equal(t, "coinbase", c.DefaultProvider)
}

func TestEveryWindowThatIsInvalidIsReported(t *testing.T) {
	t.Parallel()
	err := config{Windows: []int{0, 51, 5, 5}}.Validate()
	for _, text := range []string{"MA_WINDOWS: 0", "MA_WINDOWS: 51", "MA_WINDOWS: 5 "} {
		require.ErrorContains(t, err, text)
	}
}
