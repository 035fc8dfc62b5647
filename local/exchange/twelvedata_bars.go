package exchange

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

var twelveIntervals = map[string]time.Duration{
	"1min": time.Minute, "5min": 5 * time.Minute, "15min": 15 * time.Minute, "1h": time.Hour, "1day": oneDay,
}

// twelveSeries answers as /time_series does: the newest outputsize bars of the range, newest first unless order is ASC. Times are
// those of New York unless timezone is UTC; days are dates of the exchange.
func twelveSeries(q quote) any {
	refuse := func(text string) reply {
		return jsonReply(http.StatusOK, fmt.Sprintf(`{"code":400,"message":%q,"status":"error"}`, text))
	}
	zone := newYork
	if strings.EqualFold(q.query.Get("timezone"), "UTC") {
		zone = time.UTC
	}
	interval, ok := twelveIntervals[q.query.Get("interval")]
	size, err := strconv.Atoi(q.query.Get("outputsize"))
	if !q.query.Has("outputsize") {
		size, err = 30, nil
	}
	if !ok || err != nil || size < 1 || size > 5000 {
		return refuse("Invalid **interval** or **outputsize** provided.")
	}
	from, to := q.history.e.listed(q.history.instrument), q.at
	for name, bound := range map[string]*time.Time{"start_date": &from, "end_date": &to} {
		if text := q.query.Get(name); text != "" {
			if *bound, err = twelveTime(text, zone); err != nil {
				return refuse("Invalid **" + name + "** provided.")
			}
		}
	}
	bars := kept(q.history.bars(interval, from, to.Add(time.Second))) // end_date is included
	if len(bars) == 0 {
		return refuse("No data is available on the specified dates. Try setting different start/end dates.")
	}
	bars = bars[max(len(bars)-size, 0):]
	values := make([]map[string]string, len(bars))
	for i, b := range bars {
		at := b.start.In(zone).Format(time.DateTime)
		if interval == oneDay {
			at = b.start.Format(time.DateOnly)
		}
		price := decimalCents(b.cents) + "000"
		values[i] = map[string]string{"datetime": at, "open": "1.00000", "high": price, "low": "1.00000", "close": price, "volume": "624277"}
		if q.kind == "extra_fields" {
			values[i]["previous_close"] = price
		}
	}
	if q.kind == "bad_price" {
		values[0]["close"] = "-1.00000"
	}
	if !strings.EqualFold(q.query.Get("order"), "ASC") {
		slices.Reverse(values)
	}
	return map[string]any{
		"meta": map[string]string{
			"symbol": q.symbol, "interval": q.query.Get("interval"), "currency": "USD", "exchange_timezone": newYork.String(),
			"exchange": "NASDAQ", "mic_code": "XNGS", "type": "Common Stock",
		},
		"values": values, "status": "ok",
	}
}

func twelveTime(text string, zone *time.Location) (time.Time, error) {
	if at, err := time.ParseInLocation(time.DateOnly, text, zone); err == nil {
		return at, nil
	}
	return time.ParseInLocation(time.DateTime, text, zone)
}
