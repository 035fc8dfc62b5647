package deploy_test

import (
	"strings"
	"testing"

	"github.com/kelseyhightower/envconfig"
	"github.com/stretchr/testify/require"

	"marketdata/shared/market"
	"marketdata/shared/market/providers"
	"marketdata/shared/ratelimit/budget"
)

// A provider is listed in several places, because some of them are no Go code. One that is left out of a list fails here.
func TestEveryProviderIsInEveryList(t *testing.T) {
	t.Parallel()
	require.Equal(t, providers.Names(), market.Providers())
	example, compose, readme := read(t, "../.env.example"), read(t, "../docker-compose.yml"), read(t, "../README.md")
	for _, name := range providers.Names() {
		variable := strings.ToUpper(name)
		for _, setting := range []string{"_BASE_URL=http", "_BUDGET="} {
			require.Contains(t, example, "#"+variable+setting)
		}
		for _, setting := range []string{"_BASE_URL: http", "_BUDGET: "} {
			require.Contains(t, compose, variable+setting)
		}
		require.Contains(t, readme, "| `"+name+"` |")
		require.Contains(t, readme, "`"+variable+"_BASE_URL`")
	}
}

// A provider without a budget of its own would be called without any limit.
func TestEveryProviderHasABudget(t *testing.T) {
	t.Parallel()
	var c budget.Config
	require.NoError(t, envconfig.Process("", &c))
	require.NoError(t, c.Validate())
	for _, name := range providers.Names() {
		require.True(t, c.Limits(name), name)
	}
	require.False(t, c.Limits("another"))
}
