package service_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/shared/service"
)

func TestErrorsNameTheInvalidSetting(t *testing.T) {
	for _, c := range []struct{ variable, value, want string }{
		{"LOG_LEVEL", "loud", `LOG_LEVEL: "loud" is not one of debug, info, warn, error`},
		{"PORT", "99999999999999999999", `PORT: "99999999999999999999" is not a whole number`},
		{"PORT", "70000", "PORT: 70000 is not within 0 to 65535"},
		{"SHUTDOWN_TIMEOUT", "soon", `SHUTDOWN_TIMEOUT: "soon" is not a duration such as 500ms`},
		{"SHUTDOWN_TIMEOUT", "10", `SHUTDOWN_TIMEOUT: "10" is not a duration`},
		{"SHUTDOWN_TIMEOUT", "9999999h", `SHUTDOWN_TIMEOUT: "9999999h" is not a duration`},
		{"SHUTDOWN_TIMEOUT", "-1s", "SHUTDOWN_TIMEOUT: -1s is not within 1ms to 24h0m0s"},
		{"SHUTDOWN_TIMEOUT", "0s", "SHUTDOWN_TIMEOUT: 0s is not within"},
		{"SHUTDOWN_TIMEOUT", "2000000h", "is not within"},
		{"SHUTDOWN_DELAY", "-1ns", "SHUTDOWN_DELAY: -1ns is not within"},
		{"CORS_ORIGINS", "https://a.com/", "CORS_ORIGINS: "},
	} {
		t.Run(c.variable+"="+c.value, func(t *testing.T) {
			t.Setenv(c.variable, c.value)
			var config service.Config
			err := service.LoadConfig(&config)
			require.ErrorContains(t, err, c.want)
			require.NotRegexp(t, `strconv|parsing |invalid syntax|time: `, err.Error(), "no error texts of Go's packages")
		})
	}
}

func TestFaultsOfSettingsAreReportedInOrder(t *testing.T) { //nolint:paralleltest // it sets the environment
	for variable, value := range map[string]string{"CORS_ORIGINS": "b,a", "SHUTDOWN_DELAY": "-1s", "SHUTDOWN_TIMEOUT": "0s", "PORT": "-1"} {
		t.Setenv(variable, value)
	}
	var config service.Config
	err := service.LoadConfig(&config)
	require.Regexp(t, `^PORT: .*\nSHUTDOWN_TIMEOUT: .*\nSHUTDOWN_DELAY: .*\nCORS_ORIGINS: "b".*\nCORS_ORIGINS: "a".*$`, err.Error())
}

func TestSettingChecks(t *testing.T) {
	t.Parallel()
	require.NoError(t, service.OneOf("V", "fruit", "pear", []string{"apple", "pear"}))
	require.EqualError(t, service.OneOf("V", "fruit", "plum", []string{"apple", "pear"}), `V: unknown fruit "plum" (one of apple, pear)`)
	require.EqualError(t, service.Required("V", service.Secret("")), "V is not set")
	require.NoError(t, service.Required("V", "x"))
	require.NoError(t, service.EachOf("V", "fruit", []string{"pear", "apple"}, []string{"apple", "pear"}))
	require.EqualError(t, service.EachOf("V", "fruit", []string{"plum", "pear", "fig"}, []string{"pear"}),
		"V: unknown fruit \"plum\" (one of pear)\nV: unknown fruit \"fig\" (one of pear)")
	require.NoError(t, service.Within("V", time.Second, time.Second, time.Second))
	require.EqualError(t, service.Within("V", 2*time.Second, 0, time.Second), "V: 2s is not within 0s to 1s")
	require.EqualError(t, service.Within("V", 0, 1, 9), "V: 0 is not within 1 to 9")
}
