package latest

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"marketdata/shared/api"
	"marketdata/shared/market"
	"marketdata/shared/ratelimit"
	"marketdata/shared/testenv/apidoc"
)

// The OpenAPI document has every status of the route, with its codes.
func TestDocumentNamesEveryCode(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.routes.Document(ratelimit.Document)
	apidoc.Check(t, b.routes.OpenAPI())
	text := ""
	for status, r := range b.routes.OpenAPI().Paths["/prices/latest"].Get.Responses {
		text += status + " " + r.Description + "\n"
	}
	for _, code := range []string{
		"invalid_symbol", "unknown_provider", "invalid_parameter", "symbol_not_found", "rate_limited", "provider_malformed", "provider_auth",
		"provider_rate_limited", "provider_unavailable", "provider_timeout", "storage_unavailable",
	} {
		require.Contains(t, text, code)
	}
	document, err := json.Marshal(b.routes.OpenAPI())
	require.NoError(t, err)
	require.Contains(t, string(document), `"oneOf":[{"$ref":"#/components/schemas/GetLatestPriceBody"},{"$ref":"#/components/schemas/GetLatestBatchBody"}]`)
	require.Contains(t, string(document), `"enum":["yfinance","alpha_vantage","finnhub","twelve_data","binance","coinbase","auto"]`)
	require.Equal(t, market.SymbolPattern, api.Parameter(b.routes.OpenAPI(), "/prices/latest", "symbol").Pattern)
}
