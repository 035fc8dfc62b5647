package exchange

import "net/http"

// coinbase answers as the ticker and the candles of Coinbase Exchange do. Prices need no key: the faults about keys return its errors for a wrong
// key.
var coinbase = venue{
	name:   "coinbase",
	routes: map[string]func(quote) any{"/products/{symbol}/ticker": coinbaseTicker, "/products/{symbol}/candles": coinbaseCandles},
	lossy:  true,
	symbol: func(r *http.Request) string { return r.PathValue("symbol") },
	pair:   map[string]string{"BTC-USD": "BTC-USD", "ETH-USD": "ETH-USD"},
	page:   "<!DOCTYPE html><html><head><title>Just a moment...</title></head><body></body></html>",
	refuse: func(kind string, _ quote) (reply, bool) {
		say := func(status int, text string) (reply, bool) { return jsonReply(status, `{"message":"`+text+`"}`), true }
		switch kind {
		case "unknown_symbol":
			return say(http.StatusNotFound, "NotFound")
		case "bad_key":
			return say(http.StatusUnauthorized, "Invalid API Key")
		case "no_key":
			return say(http.StatusUnauthorized, "Unauthorized.")
		case "not_entitled":
			return say(http.StatusForbidden, "Forbidden")
		case "limit_minute", "limit_day": // its limit is per second
			return say(http.StatusTooManyRequests, "Public rate limit exceeded")
		case "error_5xx":
			return say(http.StatusInternalServerError, "Internal server error")
		}
		return reply{}, false
	},
}

func coinbaseTicker(q quote) any {
	m := map[string]any{
		"trade_id": 86326522, "price": q.price, "size": "0.00698254", "time": q.at.Format("2006-01-02T15:04:05.000Z07:00"),
		"bid": q.previous, "ask": q.price, "volume": "53602.03940154", "rfq_volume": "123.122", "conversions_volume": "0.00",
	}
	switch q.kind {
	case "bad_price":
		m["price"] = "0"
	case "extra_fields":
		m["status"] = "online"
	}
	return m
}
