package secret_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"testing"

	"github.com/kelseyhightower/envconfig"
	"github.com/stretchr/testify/require"

	"marketdata/shared/secret"
)

func TestValueIsNeverPrinted(t *testing.T) {
	t.Parallel()
	config := struct{ Key secret.Value }{"hunter2hunter2"}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t"} {
		text := fmt.Sprintf(verb+" "+verb, config.Key, config)
		require.NotContains(t, text, "hunter2", verb)
		require.NotContains(t, text, fmt.Sprintf("%x", "hunter2"), verb)
		require.Contains(t, text, "REDACTED", verb)
	}
	require.Equal(t, "REDACTED", config.Key.String())
	encoded, err := json.Marshal(config)
	require.NoError(t, err)
	require.JSONEq(t, `{"Key":"REDACTED"}`, string(encoded))
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("started", "config", config, "key", config.Key)
	slog.New(slog.NewTextHandler(&log, nil)).Info("started", "config", config, "key", config.Key)
	require.NotContains(t, log.String(), "hunter2")
	require.Equal(t, "hunter2hunter2", string(config.Key))
}

func TestValueFromTheEnvironment(t *testing.T) {
	t.Setenv("SOME_KEY", "hunter2hunter2")
	var config struct {
		Key secret.Value `envconfig:"SOME_KEY"`
	}
	require.NoError(t, envconfig.Process("", &config))
	require.Equal(t, secret.Value("hunter2hunter2"), config.Key)
}
