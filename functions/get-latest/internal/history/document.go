package history

import (
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"marketdata/shared/api"
	"marketdata/shared/fault"
	"marketdata/shared/market"
)

const path = "/prices/history"

// describe adds to the document what huma cannot know.
func describe(doc *huma.OpenAPI) {
	symbol, provider := api.Parameter(doc, path, "symbol"), api.Parameter(doc, path, "provider")
	longest := market.LongestName
	symbol.Pattern, symbol.MaxLength = market.SymbolPattern, &longest
	provider.Pattern, provider.MaxLength = market.ProviderPattern, &longest
	api.Bounds(doc, path)
}

// explain says what the route does, with examples.
func explain(routes *api.API) {
	raw := uuid.MustParse("0190f5d8-7a1c-7c2e-9d53-5a0d1f5f7c11")
	page := historyBody{
		Symbol: "AAPL", Provider: "yfinance", Currency: "USD",
		Prices: []pointBody{{time.Date(2024, 3, 20, 10, 30, 0, 0, time.UTC), "150.25", raw}},
	}
	last := page
	page.NextPageToken = new(api.ExampleToken)
	routes.Explain("price-history", api.Doc{
		Description: "The points of a series by their observation time, with the digits that the provider sent. Of several responses for one instant the latest counts. " +
			"Points that are stored between two pages neither shift nor repeat others. It is eventually consistent: a price is here once its event was processed. " +
			"Prices of provider auto are stored under the provider that answered, so auto has no history.",
		Codes:   []string{fault.CodeInvalidSymbol, fault.CodeInvalidProvider, fault.CodeStorageUnavailable},
		Returns: "The prices, or one page of them. A series without points has an empty list",
		Answer:  api.Examples{"a page": page, "the last page": last},
		CSV:     "timestamp,price,raw_response_id\r\n2024-03-20T10:30:00Z,150.25," + raw.String() + "\r\n",
	})
}
