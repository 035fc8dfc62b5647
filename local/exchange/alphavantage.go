package exchange

import (
	"encoding/json"
	"net/http"
)

const (
	alphaPremium = "https://www.alphavantage.co/premium/"
	alphaThanks  = "Thank you for using Alpha Vantage! "
)

// alphaVantage answers as GLOBAL_QUOTE (captured responses) and TIME_SERIES_DAILY (documentation) do: always with status 200, and with
// errors as "Error Message", "Note" or "Information". The error about the daily limit contains the key.
var alphaVantage = venue{
	name:   "alpha_vantage",
	routes: map[string]func(quote) any{"/query": alphaQuote},
	symbol: func(r *http.Request) string { return r.URL.Query().Get("symbol") },
	key:    func(r *http.Request) string { return r.URL.Query().Get("apikey") },
	// Splits are in another, premium function.
	asTraded: true,
	page:     "<!DOCTYPE html><html><head><title>Just a moment...</title></head><body></body></html>",
	refuse: func(kind string, q quote) (reply, bool) {
		say := func(name, text string) (reply, bool) {
			body, err := json.Marshal(map[string]string{name: text}) // the text may contain a key that the caller sent
			return jsonReply(http.StatusOK, string(body)), err == nil
		}
		switch kind {
		case "unknown_symbol":
			if isDaily(q) {
				return say("Error Message", "Invalid API call. Please retry or visit the documentation "+
					"(https://www.alphavantage.co/documentation/) for TIME_SERIES_DAILY.")
			}
			return jsonReply(http.StatusOK, `{"Global Quote":{}}`), true
		case "bad_key", "no_key":
			return say("Error Message", "the parameter apikey is invalid or missing. Please claim your free API key on "+
				"(https://www.alphavantage.co/support/#api-key). It should take less than 20 seconds.")
		case "not_entitled":
			if isDaily(q) {
				return say("Information", alphaThanks+"The outputsize=full parameter value is a premium feature for the TIME_SERIES_DAILY "+
					"endpoint. You may subscribe to any of the premium plans at "+alphaPremium+" to instantly unlock all premium features")
			}
			return say("Information", alphaThanks+"This is a premium endpoint. You may subscribe to any of the premium plans at "+
				alphaPremium+" to instantly unlock all premium endpoints")
		case "limit_minute":
			return say("Note", alphaThanks+"Our standard API call frequency is 5 calls per minute and 500 calls per day. Please visit "+
				alphaPremium+" if you would like to target a higher API call frequency.")
		case "limit_day":
			return say("Information", "We have detected your API key as "+q.key+" and our standard API rate limit is 25 requests per day. "+
				"Please subscribe to any of the premium plans at "+alphaPremium+" to instantly remove all daily rate limits.")
		case "error_5xx":
			return htmlReply(http.StatusServiceUnavailable, "<html><body><h1>503 Service Unavailable</h1></body></html>"), true
		}
		return reply{}, false
	},
}

func isDaily(q quote) bool { return q.query.Get("function") == "TIME_SERIES_DAILY" }

func alphaQuote(q quote) any {
	if isDaily(q) {
		return alphaDaily(q)
	}
	m := map[string]string{
		"01. symbol": q.symbol, "02. open": q.previous + "00", "03. high": q.price + "00", "04. low": q.previous + "00",
		"05. price": q.price + "00", "06. volume": "93222", "07. latest trading day": q.at.Format("2006-01-02"),
		"08. previous close": q.previous + "00", "09. change": "0.3250", "10. change percent": "0.6319%",
	}
	switch q.kind {
	case "bad_price":
		m["05. price"] = "0.0000"
	case "extra_fields":
		m["11. currency"] = "USD"
	}
	name := "Global Quote"
	if q.query.Get("entitlement") == "delayed" {
		name += " - DATA DELAYED BY 15 MINUTES"
	}
	return map[string]any{name: m}
}
