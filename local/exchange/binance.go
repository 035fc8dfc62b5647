package exchange

import (
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// binance answers as the ticker and the klines of the spot API do, with the errors of its documentation. Prices need no key: the faults about keys
// return its errors for a wrong key, and not_entitled its error for a restricted country.
var binance = venue{
	name:   "binance",
	routes: map[string]func(quote) any{"/api/v3/ticker/price": binanceTicker, "/api/v3/klines": binanceKlines},
	symbol: func(r *http.Request) string { return r.URL.Query().Get("symbol") },
	pair:   map[string]string{"BTCUSDT": "BTC-USD", "ETHUSDT": "ETH-USD"},
	page:   "<html><head><title>Attention Required!</title></head><body></body></html>",
	refuse: func(kind string, q quote) (reply, bool) {
		say := func(status, code int, text string) reply {
			p := jsonReply(status, fmt.Sprintf(`{"code":%d,"msg":%q}`, code, text))
			p.header = map[string]string{"X-Mbx-Used-Weight-1m": "6001"}
			return p
		}
		later := func(p reply, wait time.Duration) (reply, bool) {
			p.header["Retry-After"] = strconv.Itoa(int(wait.Seconds()))
			return p, true
		}
		switch kind {
		case "unknown_symbol":
			return say(http.StatusBadRequest, -1121, "Invalid symbol."), true
		case "bad_key":
			return say(http.StatusUnauthorized, -2014, "API-key format invalid."), true
		case "no_key":
			return say(http.StatusUnauthorized, -2015, "Invalid API-key, IP, or permissions for action."), true
		case "not_entitled":
			return say(http.StatusUnavailableForLegalReasons, 0, "Service unavailable from a restricted location according to "+
				"'b. Eligibility' in https://www.binance.com/en/terms. Please contact customer service if you believe you received "+
				"this message in error."), true
		case "limit_minute":
			return later(say(http.StatusTooManyRequests, -1003, "Too much request weight used; current limit is 6000 request weight per "+
				"1 MINUTE. Please use WebSocket Streams for live updates to avoid polling the API."), 12*time.Second)
		case "limit_day": // there is no daily limit; callers that ignore the limit are banned for minutes to days
			until := q.at.Truncate(24 * time.Hour).Add(24 * time.Hour)
			return later(say(http.StatusTeapot, -1003, fmt.Sprintf("Way too much request weight used; IP banned until %d. Please use "+
				"WebSocket Streams for live updates to avoid bans.", until.UnixMilli())), until.Sub(q.at))
		case "error_5xx":
			return say(http.StatusServiceUnavailable, -1001, "Internal error; unable to process your request. Please try again."), true
		}
		return reply{}, false
	},
}

func binanceTicker(q quote) any {
	m := map[string]string{"symbol": q.symbol, "price": q.price + "000000"}
	switch q.kind {
	case "bad_price":
		m["price"] = "0.00000000"
	case "extra_fields":
		m["openTime"] = "0"
	}
	return m
}
