package exchange

import (
	"encoding/json"
	"net/http"
	"strings"
)

const yahooNotFound = `{"chart":{"result":null,"error":{"code":"Not Found","description":"No data found, symbol may be delisted"}}}`

// yfinance answers as Yahoo's chart API v8 does (captured answers; Yahoo needs no key, so the faults about keys and
// entitlement show its wall against bots).
func (e *Exchange) yfinance(w http.ResponseWriter, r *http.Request) {
	symbol := strings.ToUpper(r.PathValue("symbol"))
	kind := e.called(r, "yfinance", symbol)
	now := e.at().Unix()
	cents, known := e.price(symbol, now)
	if kind == "unknown_symbol" || !known && kind == "" {
		writeText(w, http.StatusNotFound, "application/json", yahooNotFound)
		return
	}
	meta := map[string]any{
		"currency": "USD", "symbol": symbol, "exchangeName": "NMS", "fullExchangeName": "NasdaqGS", "instrumentType": "EQUITY",
		"firstTradeDate": 345479400, "regularMarketTime": now, "hasPrePostMarketData": true, "gmtoffset": -14400,
		"timezone": "EDT", "exchangeTimezoneName": "America/New_York",
		"regularMarketPrice": json.Number(decimalCents(cents)), "chartPreviousClose": json.Number(decimalCents(e.closes[symbol])),
		"previousClose": json.Number(decimalCents(e.closes[symbol])), "scale": 3, "priceHint": 2, "dataGranularity": "1m",
		"range": "1d", "validRanges": []string{"1d", "5d", "1mo"},
	}
	switch kind {
	case "bad_key", "no_key", "not_entitled", "limit_minute", "limit_day":
		writeText(w, http.StatusTooManyRequests, "text/plain", "Edge: Too Many Requests")
		return
	case "html":
		writeText(w, http.StatusOK, "text/html", "<!doctype html><title>Yahoo</title><p>Our engineers are working quickly to resolve the issue.")
		return
	case "error_5xx":
		writeText(w, http.StatusBadGateway, "text/html", "<html><body>502 Bad Gateway</body></html>")
		return
	case "bad_price":
		meta["regularMarketPrice"] = 0
	case "extra_fields":
		meta["fulldayPrice"], meta["regularMarketChangePercent"] = json.Number(decimalCents(cents)), 0.5
	}
	body, err := json.Marshal(map[string]any{"chart": map[string]any{
		"result": []any{map[string]any{
			"meta": meta, "timestamp": []int64{now - 120, now - 60, now},
			// Bars with a null and with float32 noise, as Yahoo's are: nobody may take a price from here.
			"indicators": map[string]any{"quote": []any{map[string]any{
				"close": []any{float32(float64(cents) / 100), nil, float32(float64(cents)/100) + 0.1},
			}}},
		}},
		"error": nil,
	}})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	text := string(body)
	switch kind {
	case "truncated":
		text = text[:len(text)/2]
	case "oversized":
		text = strings.Replace(text, `"exchangeName":"NMS"`, `"exchangeName":"`+strings.Repeat("N", 4<<20)+`"`, 1)
	}
	writeText(w, http.StatusOK, "application/json", text)
}
