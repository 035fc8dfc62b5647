package exchange

import (
	"encoding/json"
	"net/http"
)

// yfinance answers as Yahoo's chart API v8 does (captured answers). Yahoo needs no key: the faults about keys and
// entitlement show its wall against bots.
var yfinance = venue{
	name:   "yfinance",
	routes: map[string]func(quote) any{"/v8/finance/chart/{symbol}": yahooChart},
	symbol: func(r *http.Request) string { return r.PathValue("symbol") },
	page:   "<!doctype html><title>Yahoo</title><p>Our engineers are working quickly to resolve the issue.",
	refuse: func(kind string, _ quote) (reply, bool) {
		switch kind {
		case "unknown_symbol":
			return jsonReply(http.StatusNotFound,
				`{"chart":{"result":null,"error":{"code":"Not Found","description":"No data found, symbol may be delisted"}}}`), true
		case "bad_key", "no_key", "not_entitled", "limit_minute", "limit_day":
			return reply{http.StatusTooManyRequests, "text/plain", "Edge: Too Many Requests", nil}, true
		case "error_5xx":
			return htmlReply(http.StatusBadGateway, "<html><body>502 Bad Gateway</body></html>"), true
		}
		return reply{}, false
	},
}

func yahooChart(q quote) any {
	now := q.at.Unix()
	meta := map[string]any{
		"currency": "USD", "symbol": q.symbol, "exchangeName": "NMS", "fullExchangeName": "NasdaqGS", "instrumentType": "EQUITY",
		"firstTradeDate": 345479400, "regularMarketTime": now, "hasPrePostMarketData": true, "gmtoffset": -14400,
		"timezone": "EDT", "exchangeTimezoneName": "America/New_York",
		"regularMarketPrice": json.Number(q.price), "chartPreviousClose": json.Number(q.previous),
		"previousClose": json.Number(q.previous), "scale": 3, "priceHint": 2, "dataGranularity": "1m",
		"range": "1d", "validRanges": []string{"1d", "5d", "1mo"},
	}
	switch q.kind {
	case "bad_price":
		meta["regularMarketPrice"] = 0
	case "extra_fields":
		meta["fulldayPrice"], meta["regularMarketChangePercent"] = json.Number(q.price), 0.5
	}
	return map[string]any{"chart": map[string]any{
		"error": nil,
		"result": []any{map[string]any{
			"meta": meta, "timestamp": []int64{now - 120, now - 60, now},
			// Bars with a null and with float32 noise, as Yahoo's are: nobody may take a price from here.
			"indicators": map[string]any{"quote": []any{map[string]any{
				"close": []any{json.Number(q.price + "0000244140625"), nil, json.Number(q.previous + "0000244140625")},
			}}},
		}},
	}}
}
