package ratelimit

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestLimitText(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Limit{
		"5/1m": {5, time.Minute}, " 5/60s ": {5, time.Minute}, "25/1d": {25, day}, "1/1s": {1, time.Second},
		"10/250ms": {10, 250 * time.Millisecond}, "1000000/90m": {1_000_000, 90 * time.Minute}, "7/366d": {7, 366 * day},
		"1/1ms": {1, time.Millisecond},
	} {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			got, err := ParseLimit(text)
			require.NoError(t, err)
			require.Equal(t, want, got)
			again, err := ParseLimit(got.String())
			require.NoError(t, err)
			require.Equal(t, want, again, got.String())
		})
	}
	require.Equal(t, "5/1m", Limit{5, time.Minute}.String())
	require.Equal(t, "25/1d", Limit{25, day}.String())
	require.Equal(t, "3/90m", Limit{3, 90 * time.Minute}.String())
	require.Equal(t, "3/2h", Limit{3, 2 * time.Hour}.String())
	require.Equal(t, "3/250ms", Limit{3, 250 * time.Millisecond}.String())
	for _, bad := range []string{
		"", "5", "/", "5/", "/1m", "0/1m", "-1/1m", "5/x", "x/1m", "5/0s", "5/-1s", "5/1µs", "5/1.5ms", "5/367d", "5/d", "5/-1d", "5/9999999999d",
		"99999999999/1m", "1073741825/1m", "5/1m/1m", "5 / 1m",
	} {
		t.Run(bad, func(t *testing.T) {
			t.Parallel()
			_, err := ParseLimit(bad)
			require.Error(t, err)
			l := Limit{5, time.Minute}
			require.NoError(t, l.UnmarshalText([]byte(bad)))
			require.ErrorContains(t, l.Check("RATE_LIMIT_X"), "RATE_LIMIT_X")
		})
	}
}

func TestConfigReportsAllErrorsWithoutKeys(t *testing.T) {
	t.Parallel()
	hash := strings.Repeat("ab", 32)
	var c Config
	c.TrustedProxies = "10.0.0.0/8,banana,10.0.0.0/33,fe80::1%eth0"
	c.APIKeys = Keys("fine:" + hash + ",s3cret,x:s3cret,y:" + hash[2:] + ", :" + hash + ",fine:" + strings.Repeat("cd", 32) + ":5/1m,z:" + hash + ",w:" + hash + ":s3cret,")
	c.MaxCopies, c.Timeout = 0, 0
	err := c.Validate()
	for _, want := range []string{
		"RATE_LIMIT_DEFAULT", "RATE_LIMIT_TIMEOUT", "MAX_COPIES", `"banana" is not an address or a CIDR`, `"10.0.0.0/33"`, `"fe80::1%eth0"`,
		"entry 2 ", "entry 3 ", "entry 4 ", "entry 5 ", "entry 6 has a different limit for its name", "entry 7 repeats", "entry 8 ", "entry 9 ",
	} {
		require.ErrorContains(t, err, want)
	}
	require.NotContains(t, err.Error(), "entry 1 ")
	require.NotContains(t, err.Error(), "s3cret")
	require.NotContains(t, err.Error(), hash[2:])

	text, err := json.Marshal(c)
	require.NoError(t, err)
	printed := []string{string(text)}
	for _, verb := range []string{"%v", "%+v", "%#v", "%x", "%d"} {
		printed = append(printed, fmt.Sprintf(verb, c), fmt.Sprintf(verb, c.APIKeys))
	}
	for _, printed := range printed {
		require.Contains(t, printed, "REDACTED")
		require.NotContains(t, printed, "fine")
		require.NotContains(t, printed, fmt.Sprintf("%x", "fine"))
	}
	ok := Config{Timeout: time.Second, MaxCopies: 1, Default: Limit{1, time.Minute}}
	require.NoError(t, ok.Validate())
}

func TestMemoryForgetsExpiredClients(t *testing.T) {
	t.Parallel()
	now := start
	m := NewMemory(func() time.Time { return now })
	for i := range 3 * sweepAbove {
		limits := []Limit{{1, time.Minute}, {3, time.Hour}}
		if i%2 == 0 { // the longest window counts, wherever it is
			slices.Reverse(limits)
		}
		m.take(fmt.Sprint(i), limits)
		now = now.Add(time.Second)
	}
	require.LessOrEqual(t, len(m.logs), sweepAbove)
	m.sweepAt = 0 // sweep now
	m.take("another", []Limit{{1, time.Minute}})
	for _, i := range []int{3599, 3598} {
		require.NotNil(t, m.logs[fmt.Sprint(3*sweepAbove-i)], "clients of the last hour are kept")
	}
	require.Equal(t, 3600, len(m.logs)) //nolint:testifylint // Len prints them
	require.False(t, m.take(fmt.Sprint(3*sweepAbove-1), []Limit{{1, time.Minute}}).Allowed)
}

// Sweeps become rare as the number of clients grows, although none of these can be forgotten.
func TestMemorySweepsSeldomInAFlood(t *testing.T) {
	t.Parallel()
	now := start
	m := NewMemory(func() time.Time { return now })
	sweeps, at := 0, m.sweepAt
	for i := range 5 * sweepAbove {
		m.take(fmt.Sprint(i), []Limit{{2, time.Hour}})
		m.take(fmt.Sprint(i), []Limit{{2, time.Hour}})
		if m.sweepAt != at {
			sweeps, at = sweeps+1, m.sweepAt
		}
		require.LessOrEqual(t, len(m.logs), m.sweepAt, "no request sweeps for nothing")
	}
	require.Equal(t, 3, sweeps, "at 10,000, 20,000 and 40,000 clients")
	require.Equal(t, 5*sweepAbove, len(m.logs)) //nolint:testifylint // Len prints them
	require.Equal(t, 2*len(m.logs), m.held)
	now = now.Add(time.Hour)
	m.sweepAt = 0
	m.take("another", []Limit{{2, time.Hour}})
	require.Len(t, m.logs, 1)
	require.Equal(t, 1, m.held, "what is forgotten is not held")
	for client := range 3 { // few clients with large logs
		for range maxLog {
			m.take(fmt.Sprint("large ", client), []Limit{{maxLog, time.Hour}})
		}
	}
	require.LessOrEqual(t, m.held, m.holdAt)
}
