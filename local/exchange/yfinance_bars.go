package exchange

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// yahooInterval is an interval of the chart API with its limits in days; 0 means none.
type yahooInterval struct {
	length time.Duration
	span   int // of one call
	reach  int // before now
}

var yahooIntervals = map[string]yahooInterval{
	"1m": {time.Minute, 8, 30}, "5m": {5 * time.Minute, 60, 60}, "15m": {15 * time.Minute, 60, 60},
	"60m": {time.Hour, 730, 730}, "1h": {time.Hour, 730, 730}, "1d": {oneDay, 0, 0},
}

// yahooHistory answers a call with period1 and period2.
func yahooHistory(q quote) any {
	from, to := unixSeconds(q.query.Get("period1")), unixSeconds(q.query.Get("period2"))
	if refusal, refused := yahooRefusal(q, from, to); refused {
		return refusal
	}
	interval := yahooIntervals[q.query.Get("interval")].length
	r, quotes := chartResult{Meta: yahooMeta(q, interval)}, chartBars{}
	for _, b := range q.history.bars(interval, from.Add(-oneDay), to) {
		if b.open.Before(from) || !b.open.Before(to) {
			continue
		}
		at := b.open.Unix()
		if interval == oneDay && b.start.Equal(lastSession(q.at).day) {
			at = r.Meta.RegularMarketTime // the day's bar has the time of the last trade
		}
		r.Timestamp = append(r.Timestamp, at)
		quotes.Close = append(quotes.Close, yahooClose(b))
	}
	// Beside its bars, an intraday chart has the last trade, which is no bar.
	if at := r.Meta.RegularMarketTime; interval < oneDay && at >= from.Unix() && at < to.Unix() && !slices.Contains(r.Timestamp, at) {
		last := json.Number(noisy(q.history.at(at)))
		r.Timestamp, quotes.Close = append(r.Timestamp, at), append(quotes.Close, &last)
	}
	if q.kind == "bad_price" && len(quotes.Close) > 0 {
		bad := json.Number("-1")
		quotes.Close[0] = &bad
	}
	r.Indicators.Quote = []chartBars{quotes}
	if interval == oneDay {
		r.Indicators.AdjClose = []chartAdjClose{{slices.Repeat([]json.Number{"1.5"}, len(r.Timestamp))}} // less dividends
	}
	if strings.Contains(q.query.Get("events"), "split") {
		r.Events = yahooSplits(q.history, from, to)
	}
	var c chart
	c.Chart.Result = []chartResult{r}
	return c
}

// yahooRefusal returns the error of a call for a range that Yahoo does not have.
func yahooRefusal(q quote, from, to time.Time) (reply, bool) {
	name := q.query.Get("interval")
	interval, ok := yahooIntervals[name]
	refuse := func(status int, code, text string, args ...any) (reply, bool) {
		body, _ := json.Marshal(fmt.Sprintf(text, args...)) // never fails
		return jsonReply(status, `{"chart":{"result":null,"error":{"code":"`+code+`","description":`+string(body)+`}}}`), true
	}
	tooMuch := func(text string, days int) (reply, bool) {
		return refuse(http.StatusUnprocessableEntity, "Unprocessable Entity", "%s data not available for startTime=%d and endTime=%d. "+text,
			name, from.Unix(), to.Unix(), days)
	}
	switch {
	case !ok || from.IsZero() || to.Before(from):
		return refuse(http.StatusBadRequest, "Bad Request", "Invalid input")
	case interval.span > 0 && to.Sub(from) > time.Duration(interval.span)*oneDay:
		return tooMuch("Only %d days worth of this granularity data are allowed to be fetched per request.", interval.span)
	case interval.reach > 0 && q.at.Sub(from) > time.Duration(interval.reach)*oneDay:
		return tooMuch("The requested range must be within the last %d days.", interval.reach)
	case to.Before(q.history.e.listed(q.history.instrument)):
		return refuse(http.StatusBadRequest, "Bad Request", "Data doesn't exist for startDate = %d, endDate = %d", from.Unix(), to.Unix())
	}
	return reply{}, false
}

// yahooClose returns a bar's close with the digits of a float32, or null.
func yahooClose(b bar) *json.Number {
	if b.lost {
		return nil
	}
	n := json.Number(noisy(b.cents))
	return &n
}

// noisy writes a price as Yahoo does: rounded to a float32, with all digits of the result.
func noisy(cents int64) string {
	return strconv.FormatFloat(float64(float32(float64(cents)/100)), 'f', -1, 64)
}

// chartSplits is the member events. Its numbers must not be mistaken for prices.
type chartSplits struct {
	Splits map[string]chartSplit `json:"splits"`
}

type chartSplit struct {
	Date        int64       `json:"date"`
	Numerator   json.Number `json:"numerator"`
	Denominator json.Number `json:"denominator"`
	SplitRatio  string      `json:"splitRatio"`
}

func yahooSplits(h history, from, to time.Time) *chartSplits {
	splits := map[string]chartSplit{}
	for _, s := range h.e.splitsOf(h.instrument, h.now.Unix()) {
		if s.At.Before(from) || !s.At.Before(to) || s.Known.After(h.now) {
			continue
		}
		decimal := func(n int64) json.Number { return json.Number(strconv.FormatInt(n, 10) + ".0") }
		splits[strconv.FormatInt(s.At.Unix(), 10)] = chartSplit{
			s.At.Unix(), decimal(s.Numerator), decimal(s.Denominator), fmt.Sprintf("%d:%d", s.Numerator, s.Denominator),
		}
	}
	if len(splits) == 0 {
		return nil
	}
	return &chartSplits{splits}
}

// yahooMeta returns the meta of a history. Its clock is that of the last session, and its offset that of now.
func yahooMeta(q quote, interval time.Duration) chartMeta {
	s := lastSession(q.at)
	zone, offset := q.at.In(newYork).Zone()
	traded := min(q.at.Unix(), s.end.Unix())
	price := json.Number(decimalCents(q.history.at(traded)))
	names := map[time.Duration]string{time.Minute: "1m", 5 * time.Minute: "5m", 15 * time.Minute: "15m", time.Hour: "1h", oneDay: "1d"}
	m := chartMeta{
		Currency: "USD", Symbol: q.symbol, ExchangeName: "NMS", FullExchangeName: "NasdaqGS", InstrumentType: "EQUITY",
		FirstTradeDate: q.history.e.listed(q.history.instrument).Unix(), RegularMarketTime: traded, HasPrePostMarketData: true,
		GMTOffset: offset, Timezone: zone, ExchangeTimezoneName: newYork.String(),
		RegularMarketPrice: price, ChartPreviousClose: json.Number(q.previous), PreviousClose: json.Number(q.previous),
		Scale: 3, PriceHint: 2, DataGranularity: names[interval], ValidRanges: []string{"1d", "5d", "1mo"},
		CurrentTradingPeriod: &chartPeriods{chartPeriod{zone, s.open.Unix(), s.end.Unix(), offset}},
	}
	if q.kind == "extra_fields" {
		m.FulldayPrice, m.RegularMarketChangePercent = price, 0.5
	}
	return m
}
