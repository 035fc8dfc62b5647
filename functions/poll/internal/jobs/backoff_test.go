package jobs

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/shared/fault"
)

func TestBackoffOf(t *testing.T) {
	t.Parallel()
	at := func(s int64) time.Time { return time.Unix(s, 0) }
	off := map[string]Backoff{"a": {Provider: "a", Until: at(9)}, "b": {Provider: "b", Until: at(7)}}
	for name, c := range map[string]struct {
		provider string
		chain    []string
		want     string // provider; empty: no back-off
	}{
		"a provider that is backed off":  {"a", []string{"a", "c"}, "a"},
		"one that is not":                {"c", []string{"a", "b"}, ""},
		"auto with another provider":     {Auto, []string{"a", "c"}, ""},
		"auto without another":           {Auto, []string{"a", "b"}, "b"},
		"auto with an empty chain":       {Auto, nil, ""},
		"auto with a chain of one":       {Auto, []string{"a"}, "a"},
		"a provider outside of the list": {"d", nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := BackoffOf(c.provider, c.chain, off)
			if c.want == "" {
				require.Nil(t, b)
				return
			}
			require.Equal(t, off[c.want], *b)
		})
	}
}

func TestReasons(t *testing.T) {
	t.Parallel()
	for code, want := range map[Outcome]string{
		fault.CodeProviderTimeout:     "provider_timeout: yfinance does not answer in time",
		fault.CodeProviderUnavailable: "provider_unavailable: yfinance cannot be reached, or answers with errors",
		fault.CodeProviderRateLimited: "provider_rate_limited: yfinance refuses calls: its limit is spent",
	} {
		require.Equal(t, want, Backoff{Provider: "yfinance", Code: code}.Reason())
	}
	require.Equal(t, "symbol_not_found: every symbol failed for 24 hours; resume the job to try again", PauseReason(fault.CodeSymbolNotFound))
}
