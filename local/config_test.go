package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/local/services"
	"marketdata/shared/postgres/roles"
	"marketdata/shared/priceevent"
)

func TestCopies(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		copies  string
		want    map[string]int // of get-latest and poll
		refused string
	}{
		"unset":                {copies: "", want: map[string]int{"get-latest": 1, "poll": 1}},
		"some":                 {copies: "get-latest=3, poll=20,", want: map[string]int{"get-latest": 3, "poll": 20}},
		"none of a function":   {copies: "poll=2,get-latest=0", refused: `"get-latest=0"`},
		"negative":             {copies: "get-latest=-1", refused: `"get-latest=-1"`},
		"too many":             {copies: "get-latest=21", refused: `"get-latest=21"`},
		"not a number":         {copies: "get-latest=many", refused: `"get-latest=many"`},
		"without a number":     {copies: "get-latest", refused: `"get-latest"`},
		"of an unknown name":   {copies: "exchange=2", refused: `"exchange=2"`},
		"without a function":   {copies: "=2", refused: `"=2"`},
		"a number with spaces": {copies: "poll= 2", refused: `"poll= 2"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := config{Copies: c.copies, Broker: services.Embedded, Topics: priceevent.DefaultTopics}
			err := cfg.Validate()
			if c.refused != "" {
				require.EqualError(t, err, "COPIES: invalid entry "+c.refused+": want function=1..20, function one of compute-ma dlq-inspector get-latest poll")
				return
			}
			require.NoError(t, err)
			for function, n := range c.want {
				require.Equal(t, n, cfg.replicas[function], function)
			}
			require.Equal(t, 1, cfg.replicas["compute-ma"])
		})
	}
}

func TestScaleToZero(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]time.Duration{"": 0, "0": 0, "1": 3 * time.Second, "1s": time.Second, "60s": time.Minute, "1h": time.Hour} {
		cfg := config{ScaleToZero: value, Broker: services.Embedded, Topics: priceevent.DefaultTopics}
		require.NoError(t, cfg.Validate(), value)
		require.Equal(t, want, cfg.idle, value)
	}
	for _, value := range []string{"2", "yes", "-1s", "999ms", "61m", "1m1"} {
		cfg := config{ScaleToZero: value, Broker: services.Embedded, Topics: priceevent.DefaultTopics}
		require.EqualError(t, cfg.Validate(), `SCALE_TO_ZERO: "`+value+`" is neither 1 nor a duration of 1s to 1h`)
	}
}

// A function has the URL of its own database user, or the common one.
func TestUsersOfFunctions(t *testing.T) {
	t.Parallel()
	cfg := config{Broker: services.Embedded, Topics: priceevent.DefaultTopics, Users: roles.URLs{Poll: "postgres://poll@db/m"}}
	require.ErrorContains(t, cfg.Validate(), "DATABASE_URL is not set")
	cfg.DatabaseURL = "postgres://owner@db/m"
	require.NoError(t, cfg.Validate())
	given := cfg.services(t.TempDir(), func(string) {}).Addresses
	require.Equal(t, "postgres://poll@db/m", given.Database("poll"))
	require.Equal(t, "postgres://owner@db/m", given.Database("get-latest"))

	cfg.LocalStack, cfg.DatabaseURL = "/stack", ""
	require.NoError(t, cfg.Validate(), "the variables of another stack do not count")
	require.Empty(t, cfg.services(t.TempDir(), func(string) {}).Addresses)
}

// The event sources keep their client id as long as their folder.
func TestClientID(t *testing.T) {
	t.Parallel()
	cfg := config{Dir: t.TempDir()}
	first, err := cfg.clientID()
	require.NoError(t, err)
	require.Regexp(t, `^[0-9a-f-]{36}$`, first)
	again, err := cfg.clientID()
	require.NoError(t, err)
	require.Equal(t, first, again)

	require.NoError(t, os.WriteFile(filepath.Join(cfg.Dir, "client-id"), nil, 0o600), "a crash left an empty file")
	other, err := cfg.clientID()
	require.NoError(t, err)
	require.Regexp(t, `^[0-9a-f-]{36}$`, other)
}
