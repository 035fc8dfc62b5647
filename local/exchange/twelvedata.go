package exchange

import (
	"fmt"
	"net/http"
	"strings"
	"time"
)

// twelveData answers as Twelve Data's /quote, /price (captured responses) and /time_series (documentation) do. Errors about
// the symbol have their HTTP status, the others have 200: the real API does both, and only the code in the body counts.
var twelveData = venue{
	name:   "twelve_data",
	routes: map[string]func(quote) any{"/quote": twelveQuote, "/price": twelvePrice, "/time_series": twelveSeries},
	lossy:  true,
	symbol: func(r *http.Request) string { return r.URL.Query().Get("symbol") },
	key: func(r *http.Request) string {
		header, _ := strings.CutPrefix(r.Header.Get("Authorization"), "apikey ")
		return header + r.URL.Query().Get("apikey")
	},
	page: "<!DOCTYPE html><html><head><title>Twelve Data</title></head><body></body></html>",
	refuse: func(kind string, _ quote) (reply, bool) {
		say := func(status, code int, text string) (reply, bool) {
			return jsonReply(status, fmt.Sprintf(`{"code":%d,"message":%q,"status":"error"}`, code, text)), true
		}
		const key = "**apikey** parameter is incorrect or not specified. You can get your free API key instantly following this link: " +
			"https://twelvedata.com/pricing. If you believe that everything is correct, you can contact us at " +
			"https://twelvedata.com/contact/customer"
		const credits = "You have run out of API credits for the %s. %d API credits were used, with the current limit being %d. " +
			"Wait for the next %s or consider switching to a higher tier plan at https://twelvedata.com/pricing"
		switch kind {
		case "unknown_symbol":
			return say(http.StatusNotFound, http.StatusNotFound, "**symbol** or **figi** parameter is missing or invalid. Please provide "+
				"a valid symbol according to API documentation: https://twelvedata.com/docs#reference-data")
		case "bad_key", "no_key":
			return say(http.StatusOK, http.StatusUnauthorized, key)
		case "not_entitled":
			return say(http.StatusNotFound, http.StatusNotFound, "This symbol is available starting with the Grow or Venture plan. "+
				"Consider upgrading now at https://twelvedata.com/pricing")
		case "limit_minute":
			return say(http.StatusOK, http.StatusTooManyRequests, fmt.Sprintf(credits, "current minute", 9, 8, "minute"))
		case "limit_day":
			return say(http.StatusOK, http.StatusTooManyRequests, fmt.Sprintf(credits, "day", 801, 800, "day"))
		case "error_5xx":
			return say(http.StatusInternalServerError, http.StatusInternalServerError, "Internal server error")
		}
		return reply{}, false
	},
}

func twelveQuote(q quote) any {
	day := q.at.Truncate(24 * time.Hour)
	m := map[string]any{
		"symbol": q.symbol, "name": q.symbol, "exchange": "NASDAQ", "mic_code": "XNGS", "currency": "USD",
		"datetime": day.Format("2006-01-02"), "timestamp": day.Unix(), "last_quote_at": q.at.Unix(),
		"open": q.previous + "000", "high": q.price + "000", "low": q.previous + "000", "close": q.price + "000",
		"volume": "35660958", "previous_close": q.previous + "000", "change": "-1.41", "percent_change": "-0.41839",
		"average_volume": "49158440", "is_market_open": true,
		"fifty_two_week": map[string]string{"low": "236.64999", "high": "344.57001"},
	}
	switch q.kind {
	case "bad_price":
		m["close"] = nil
	case "extra_fields":
		m["extended_price"] = q.price
	}
	return m
}

func twelvePrice(q quote) any {
	m := map[string]any{"price": q.price + "000"}
	switch q.kind {
	case "bad_price":
		m["price"] = nil
	case "extra_fields":
		m["extended_price"] = q.price
	}
	return m
}
