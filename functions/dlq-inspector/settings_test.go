package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// An invalid setting is reported at start, with its name and what is valid, instead of failing every request.
func TestSettingsThatCannotWorkAreRefusedAtStart(t *testing.T) {
	for name, value := range map[string]string{
		"DATABASE_URL": "postgres://localhost/x", "REDIS_URL": "redis://localhost", "KAFKA_BOOTSTRAP_SERVERS": "localhost:9092",
		"API_KEYS": "", "TRUSTED_PROXIES": "",
	} {
		t.Setenv(name, value)
	}
	c, err := loadConfig()
	require.NoError(t, err)
	require.Equal(t, 3, c.MaxReplays)
	for _, fault := range []struct{ variable, value, want string }{
		{"LOG_LEVEL", "loud", "LOG_LEVEL: "},
		{"SHUTDOWN_TIMEOUT", "-1s", "SHUTDOWN_TIMEOUT: -1s is not within"},
		{"RATE_LIMIT_TIMEOUT", "0s", "RATE_LIMIT_TIMEOUT: 0s is not within"},
		{"RATE_LIMIT_DEFAULT", "99999999999999999999/1m", "RATE_LIMIT_DEFAULT"},
		{"MAX_COPIES", "-1", "MAX_COPIES: -1 is not within"},
		{"COMPUTE_MA_URL", "compute-ma:8080", "COMPUTE_MA_URL"},
		{"COMPUTE_MA_URL", "ftp://compute-ma", "COMPUTE_MA_URL"},
		{"MAX_REPLAYS", "0", "MAX_REPLAYS"},
		{"MAX_REPLAYS", "three", `MAX_REPLAYS: "three" is not a whole number`},
		{"DLQ_TOKENS", "alice", "DLQ_TOKENS: entry 1"},
	} {
		t.Run(fault.variable+"="+fault.value, func(t *testing.T) {
			t.Setenv(fault.variable, fault.value)
			_, err := loadConfig()
			require.ErrorContains(t, err, fault.want)
		})
	}
}
