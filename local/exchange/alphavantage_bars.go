package exchange

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// alphaCompact is the number of days in an answer of outputsize=compact, the default.
const alphaCompact = 100

// alphaDaily answers as TIME_SERIES_DAILY does: newest first, and as traded, without a word about splits. Today's bar is there from
// the open on. outputsize=full works: the fault not_entitled refuses it as for a free key.
func alphaDaily(q quote) any {
	size, from := "Full size", time.Time{}
	if q.query.Get("outputsize") != "full" {
		size, from = "Compact", q.at.Add(-2*alphaCompact*oneDay)
	}
	bars := kept(q.history.bars(oneDay, from, q.at.Add(oneDay)))
	if size == "Compact" {
		bars = bars[max(len(bars)-alphaCompact, 0):]
	}
	var refreshed string
	var series strings.Builder
	for i, b := range slices.Backward(bars) {
		price := decimalCents(b.cents) + "00"
		if i == len(bars)-1 {
			refreshed = b.start.Format(time.DateOnly)
			if q.kind == "bad_price" {
				price = "-1.0000"
			}
		} else {
			series.WriteByte(',')
		}
		fmt.Fprintf(&series, `%q:{"1. open":"1.0000","2. high":%q,"3. low":"1.0000","4. close":%q,"5. volume":"8828236"}`,
			b.start.Format(time.DateOnly), price, price)
	}
	body := map[string]any{
		"Meta Data": map[string]string{
			"1. Information": "Daily Prices (open, high, low, close) and Volumes", "2. Symbol": q.symbol,
			"3. Last Refreshed": refreshed, "4. Output Size": size, "5. Time Zone": "US/Eastern",
		},
		"Time Series (Daily)": json.RawMessage("{" + series.String() + "}"),
	}
	if q.kind == "extra_fields" {
		body["Notes"] = "none"
	}
	return body
}
