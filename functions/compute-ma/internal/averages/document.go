package averages

import (
	"time"

	"github.com/danielgtaylor/huma/v2"

	"marketdata/shared/api"
	"marketdata/shared/fault"
	"marketdata/shared/market"
)

// describe adds to the document what huma cannot know.
func describe(doc *huma.OpenAPI) {
	longest := market.LongestName
	for _, path := range []string{"/averages/latest", "/averages/history"} {
		symbol, provider := api.Parameter(doc, path, "symbol"), api.Parameter(doc, path, "provider")
		symbol.Pattern, symbol.MaxLength = market.SymbolPattern, &longest
		provider.Pattern, provider.MaxLength = market.ProviderPattern, &longest
	}
	api.Bounds(doc, "/averages/history")
}

// explain says what the queries do, with examples.
func explain(routes *api.API) {
	asOf := time.Date(2024, 3, 20, 10, 30, 0, 0, time.UTC)
	routes.Explain("latest-average", api.Doc{
		Description: "The average of the newest points of a series, exact: its digits are those of the decimal mean. A window of MA_WINDOWS is read from " +
			"the row that every event updates; another one is computed for the answer, which then has computed. With fewer points than the window, " +
			"the average is that of the points there are, and complete is false. It is eventually consistent: a price is in it once its event was processed, " +
			"usually within a second.",
		Codes:   []string{fault.CodeInvalidSymbol, fault.CodeInvalidProvider, fault.CodeAverageNotFound, fault.CodeStorageUnavailable},
		Returns: "The average",
		Answer: api.Examples{
			"complete window": Average{
				Symbol: "AAPL", Provider: "yfinance", Window: 5, Average: "149.8", PointsUsed: 5, Complete: true, AsOf: asOf, Oldest: asOf.Add(-4 * time.Minute),
			},
			"few points, of a window that is not stored": Average{
				Symbol: "AAPL", Provider: "yfinance", Window: 30, Average: "150.125", PointsUsed: 2, AsOf: asOf, Oldest: asOf.Add(-time.Minute), Computed: true,
			},
		},
	})
	history := historyAnswer{}.Body
	history.Symbol, history.Provider, history.Kind, history.Window = "AAPL", "yfinance-1d", sma, 5
	history.Averages = []historyAverage{{AsOf: asOf.Truncate(24 * time.Hour), Average: "172.926"}, {AsOf: asOf.Truncate(24*time.Hour).AddDate(0, 0, 1), Average: "172.812"}}
	expanded := history
	expanded.Window, expanded.Averages = 2, []historyAverage{{AsOf: asOf, Average: "150.125", Underlying: []underlyingRow{{asOf.Add(-time.Minute), "150"}, {asOf, "150.25"}}}}
	expanded.Provider, expanded.NextPageToken = "yfinance", new(api.ExampleToken)
	routes.Explain("average-history", api.Doc{
		Description: "Averages of the points of a range, oldest first. Only points of the range count: the first average belongs to its window-th point. " +
			"sma is exact; wma and ema are rounded to 12 places, and an ema is seeded with the mean of the first window points. " +
			"The pages together equal one long answer, whatever is stored meanwhile. With expand_underlying, limit × window is at most 100000.",
		Codes:   []string{fault.CodeInvalidSymbol, fault.CodeInvalidProvider, fault.CodeStorageUnavailable},
		Returns: "The averages, or one page of them. A series without points has an empty list",
		Answer:  api.Examples{"averages of daily closes": history, "with the points of each average": expanded},
		CSV:     "as_of,average,adjusting\r\n2024-03-20T00:00:00Z,172.926,false\r\n2024-03-21T00:00:00Z,172.812,false\r\n",
	})
	list := seriesAnswer{}.Body
	list.Series = []listedSeries{{Series: ExampleSeries()}}
	routes.Explain("list-series", api.Doc{
		Description: "The state of every series that has a point, by symbol and provider. Series that are added meanwhile neither shift nor repeat others. " +
			"A page may have fewer entries than limit; the last one has no next_page_token.",
		Codes:   []string{fault.CodeStorageUnavailable},
		Returns: "A page of series",
		Answer:  api.Examples{"one series": list},
	})
}

// ExampleSeries returns the state of a series for the document.
func ExampleSeries() Series {
	return Series{
		Symbol: "AAPL", Provider: "yfinance", Price: "150.25", AsOf: time.Date(2024, 3, 20, 10, 30, 0, 0, time.UTC),
		Averages: []SeriesAverage{{Window: 5, Average: "149.8", PointsUsed: 5, Complete: true}, {Window: 20, Average: "149.9", PointsUsed: 12}},
	}
}
