package exchange

import (
	"net/http"
	"strconv"
	"time"
)

var binanceIntervals = map[string]time.Duration{
	"1m": time.Minute, "5m": 5 * time.Minute, "15m": 15 * time.Minute, "1h": time.Hour, "1d": oneDay,
}

// binanceKlines answers as /api/v3/klines does: with startTime the oldest bars of the range, otherwise the newest. There is a bar for
// every interval.
func binanceKlines(q quote) any {
	refuse := func(code, text string) reply {
		return jsonReply(http.StatusBadRequest, `{"code":`+code+`,"msg":"`+text+`"}`)
	}
	interval, ok := binanceIntervals[q.query.Get("interval")]
	if !ok {
		return refuse("-1120", "Invalid interval.")
	}
	limit := 500
	if text := q.query.Get("limit"); text != "" {
		var err error
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 {
			return refuse("-1100", "Illegal characters found in parameter 'limit'; legal range is '^[0-9]{1,20}$'.")
		}
		limit = min(limit, 1000)
	}
	from, to := q.at.Add(-time.Duration(limit)*interval), q.at
	for name, bound := range map[string]*time.Time{"startTime": &from, "endTime": &to} {
		if text := q.query.Get(name); text != "" {
			millis, err := strconv.ParseInt(text, 10, 64)
			if err != nil {
				return refuse("-1100", "Illegal characters found in parameter '"+name+"'; legal range is '^[0-9]{1,20}$'.")
			}
			*bound = time.UnixMilli(millis)
		}
	}
	rows := [][]any{}
	for _, b := range kept(q.history.bars(interval, from, to.Add(time.Millisecond))) { // endTime is included
		if len(rows) == limit {
			break
		}
		price := decimalCents(b.cents) + "000000"
		row := []any{
			b.start.UnixMilli(), "1.00000000", price, "1.00000000", price, "148976.11427815",
			b.end.UnixMilli() - 1, "2434.19055334", 308, "1756.87402397", "28.46694368", "0",
		}
		if q.kind == "extra_fields" {
			row = append(row, "1.00000000")
		}
		rows = append(rows, row)
	}
	if q.kind == "bad_price" && len(rows) > 0 {
		rows[0][4] = "-1.00000000"
	}
	return rows
}
