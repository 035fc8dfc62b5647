package exchange

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// coinbaseMost is the number of candles in an answer.
const coinbaseMost = 300

// coinbaseCandles answers as /products/{id}/candles does: newest first, as numbers, and without the intervals that have no trades.
func coinbaseCandles(q quote) any {
	refuse := func(text string) reply { return jsonReply(http.StatusBadRequest, `{"message":"`+text+`"}`) }
	seconds, _ := strconv.Atoi(q.query.Get("granularity"))
	if !slices.Contains([]int{60, 300, 900, 3600, 21600, 86400}, seconds) {
		return refuse("Unsupported granularity")
	}
	interval := time.Duration(seconds) * time.Second
	from, to := q.at.Add(-coinbaseMost*interval), q.at
	for name, bound := range map[string]*time.Time{"start": &from, "end": &to} {
		if text := q.query.Get(name); text != "" {
			var err error
			if *bound, err = time.Parse(time.RFC3339, text); err != nil {
				return refuse("Invalid " + name)
			}
		}
	}
	if to.Sub(from) > coinbaseMost*interval {
		return refuse("granularity too small for the requested time range. Count of aggregations requested exceeds 300")
	}
	rows := [][]json.Number{}
	for _, b := range kept(q.history.bars(interval, from, to.Add(time.Second))) { // end is included
		price := json.Number(decimalCents(b.cents))
		row := []json.Number{json.Number(strconv.FormatInt(b.start.Unix(), 10)), "1.01", price, "1.5", price, "12.34567891"}
		if q.kind == "extra_fields" {
			row = append(row, "7")
		}
		rows = append(rows, row)
	}
	if q.kind == "bad_price" && len(rows) > 0 {
		rows[0][4] = "-1"
	}
	slices.Reverse(rows)
	return rows
}
