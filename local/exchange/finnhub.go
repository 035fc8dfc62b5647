package exchange

import (
	"encoding/json"
	"net/http"
)

// finnhub answers as Finnhub's /quote does (captured responses): an unknown symbol is a quote of zeros, and errors have a status. The
// key is in a header or in the query.
var finnhub = venue{
	name:   "finnhub",
	routes: map[string]func(quote) any{"/api/v1/quote": finnhubQuote},
	symbol: func(r *http.Request) string { return r.URL.Query().Get("symbol") },
	key: func(r *http.Request) string {
		return r.Header.Get("X-Finnhub-Token") + r.URL.Query().Get("token")
	},
	page: "<!doctype html><html><head><title>Finnhub</title></head><body></body></html>",
	refuse: func(kind string, _ quote) (reply, bool) {
		say := func(status int, text string) (reply, bool) { return jsonReply(status, `{"error":"`+text+`"}`), true }
		switch kind {
		case "unknown_symbol":
			return jsonReply(http.StatusOK, `{"c":0,"d":null,"dp":null,"h":0,"l":0,"o":0,"pc":0,"t":0}`), true
		case "bad_key":
			return say(http.StatusUnauthorized, "Invalid API key.")
		case "no_key":
			return say(http.StatusUnauthorized, "Please use an API key.")
		case "not_entitled":
			return say(http.StatusForbidden, "You don't have access to this resource.")
		case "limit_minute", "limit_day": // Finnhub has no daily limit, and one text for all other limits
			return say(http.StatusTooManyRequests, "API limit reached. Please try again later. Remaining Limit: 0")
		case "error_5xx":
			return htmlReply(http.StatusBadGateway, "<html><head><title>502 Bad Gateway</title></head></html>"), true
		}
		return reply{}, false
	},
}

func finnhubQuote(q quote) any {
	m := map[string]any{
		"c": json.Number(q.price), "d": json.Number("2.04"), "dp": json.Number("1.351"), "h": json.Number(q.price),
		"l": json.Number(q.previous), "o": json.Number(q.previous), "pc": json.Number(q.previous), "t": q.at.Unix(),
	}
	switch q.kind {
	case "bad_price":
		m["c"] = 0 // the other members are real, as before the market opens
	case "extra_fields":
		m["v"] = 3907731
	}
	return m
}
