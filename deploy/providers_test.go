package deploy_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"marketdata/shared/market"
	"marketdata/shared/ratelimit/budget"
)

// A provider is listed in several files, some of which are not Go code. A provider that is missing in one of them fails here.
func TestEveryProviderIsInEveryList(t *testing.T) {
	t.Parallel()
	example, compose, readme := read(t, "../.env.example"), read(t, "../docker-compose.yml"), read(t, "../README.md")
	for _, l := range market.Catalog {
		variable := strings.ToUpper(l.Name)
		require.Contains(t, example, "#"+variable+"_BASE_URL="+l.BaseURL+"\n")
		require.Contains(t, example, "#"+variable+"_BUDGET="+l.Budget+"\n")
		for _, setting := range []string{"_BASE_URL: http", "_BUDGET: "} {
			require.Contains(t, compose, variable+setting)
		}
		key := "–"
		if l.Key {
			key = "`" + variable + "_API_KEY`"
			require.Contains(t, compose, variable+"_API_KEY: ")
			require.Contains(t, example, "#"+variable+"_API_KEY=")
		}
		require.Contains(t, readme, "| `"+l.Name+"` | `"+strings.Join(l.Symbols, "`, `")+"` | "+key+" | `"+variable+"_BASE_URL` |")
		for _, folder := range []string{"../shared/market/", "../local/exchange/"} {
			found, err := filepath.Glob(folder + strings.ReplaceAll(l.Name, "_", "") + "*")
			require.NoError(t, err)
			require.NotEmpty(t, found, "%s in %s", l.Name, folder)
		}
	}
}

// A provider without a budget would be called without any limit.
func TestEveryProviderHasABudget(t *testing.T) {
	t.Parallel()
	var c budget.Config
	c.Load()
	require.NoError(t, c.Validate())
	for _, name := range market.Providers() {
		require.True(t, c.Limits(name), name)
	}
	require.False(t, c.Limits("another"))
}
