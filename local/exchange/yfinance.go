package exchange

import (
	"encoding/json"
	"net/http"
)

// yfinance answers as Yahoo's chart API v8 does (captured responses). Yahoo needs no key: the faults about keys and entitlement
// return its response to bots.
var yfinance = venue{
	name:   "yfinance",
	routes: map[string]func(quote) any{"/v8/finance/chart/{symbol}": yahooChart},
	symbol: func(r *http.Request) string { return r.PathValue("symbol") },
	lossy:  true,
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

// chart is Yahoo's response.
type chart struct {
	Chart struct {
		Error  *struct{}     `json:"error"`
		Result []chartResult `json:"result"`
	} `json:"chart"`
}

type chartResult struct {
	Meta       chartMeta `json:"meta"`
	Timestamp  []int64   `json:"timestamp,omitempty"`
	Indicators struct {
		Quote    []chartBars     `json:"quote"`
		AdjClose []chartAdjClose `json:"adjclose,omitempty"`
	} `json:"indicators"`
	Events *chartSplits `json:"events,omitempty"`
}

type chartBars struct {
	Close []*json.Number `json:"close,omitempty"`
}

type chartAdjClose struct {
	AdjClose []json.Number `json:"adjclose"`
}

type chartPeriods struct {
	Regular chartPeriod `json:"regular"`
}

type chartPeriod struct {
	Timezone  string `json:"timezone"`
	Start     int64  `json:"start"`
	End       int64  `json:"end"`
	GMTOffset int    `json:"gmtoffset"`
}

type chartMeta struct {
	Currency             string      `json:"currency"`
	Symbol               string      `json:"symbol"`
	ExchangeName         string      `json:"exchangeName"`
	FullExchangeName     string      `json:"fullExchangeName"`
	InstrumentType       string      `json:"instrumentType"`
	FirstTradeDate       int64       `json:"firstTradeDate"`
	RegularMarketTime    int64       `json:"regularMarketTime"`
	HasPrePostMarketData bool        `json:"hasPrePostMarketData"`
	GMTOffset            int         `json:"gmtoffset"`
	Timezone             string      `json:"timezone"`
	ExchangeTimezoneName string      `json:"exchangeTimezoneName"`
	RegularMarketPrice   json.Number `json:"regularMarketPrice"`
	ChartPreviousClose   json.Number `json:"chartPreviousClose"`
	PreviousClose        json.Number `json:"previousClose"`
	Scale                int         `json:"scale"`
	PriceHint            int         `json:"priceHint"`
	DataGranularity      string      `json:"dataGranularity"`
	Range                string      `json:"range"`
	ValidRanges          []string    `json:"validRanges"`
	// Only in a history.
	CurrentTradingPeriod *chartPeriods `json:"currentTradingPeriod,omitempty"`
	// Set by the fault extra_fields.
	FulldayPrice               json.Number `json:"fulldayPrice,omitempty"`
	RegularMarketChangePercent float64     `json:"regularMarketChangePercent,omitempty"`
}

func yahooChart(q quote) any {
	if q.query.Has("period1") {
		return yahooHistory(q)
	}
	now, last, previous := q.at.Unix(), json.Number(q.price), json.Number(q.previous)
	meta := chartMeta{
		Currency: "USD", Symbol: q.symbol, ExchangeName: "NMS", FullExchangeName: "NasdaqGS", InstrumentType: "EQUITY",
		FirstTradeDate: 345479400, RegularMarketTime: now, HasPrePostMarketData: true, GMTOffset: -14400,
		Timezone: "EDT", ExchangeTimezoneName: "America/New_York",
		RegularMarketPrice: last, ChartPreviousClose: previous, PreviousClose: previous,
		Scale: 3, PriceHint: 2, DataGranularity: "1m", Range: "1d", ValidRanges: []string{"1d", "5d", "1mo"},
	}
	switch q.kind {
	case "bad_price":
		meta.RegularMarketPrice = "0"
	case "extra_fields":
		meta.FulldayPrice, meta.RegularMarketChangePercent = last, 0.5
	}
	// Bars with a null and with float32 noise, like Yahoo's: an adapter must not take its price from them.
	noisy := func(n json.Number) *json.Number { n += "0000244140625"; return &n }
	r := chartResult{Meta: meta, Timestamp: []int64{now - 120, now - 60, now}}
	r.Indicators.Quote = []chartBars{{[]*json.Number{noisy(last), nil, noisy(previous)}}}
	var c chart
	c.Chart.Result = []chartResult{r}
	return c
}
