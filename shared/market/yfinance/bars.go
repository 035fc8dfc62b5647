package yfinance

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"marketdata/shared/market"
	"marketdata/shared/market/upstream"
)

const (
	day = 24 * time.Hour
	// most is the number of intervals of one call. At about 100 bytes each, the response stays far below the client's limit. It is also
	// within Yahoo's limit of a week of minutes.
	most = 4000
	// delay is the most by which Yahoo's prices of some exchanges are late, with time to spare. It counts only if the answer does not
	// tell that an interval has ended.
	delay = time.Hour
	// whole is what the sessions of instruments without a close last at least, according to Yahoo: from 00:00 to 23:59.
	whole = 23 * time.Hour
)

// reach is how far before now Yahoo's bars of an interval begin, less the day that each call adds and another to spare.
var reach = map[market.Interval]time.Duration{
	market.Minute: (30 - 2) * day, market.FiveMinutes: (60 - 2) * day, market.QuarterHour: (60 - 2) * day, market.Hour: (730 - 2) * day,
}

// Intervals returns 1m, 5m, 15m, 1h and 1d.
func (p *Provider) Intervals() []market.Interval { return market.Intervals }

// Bars returns closes in today's shares, rounded to the decimals that priceHint gives for the symbol; what rounds to 0 is left out.
// Yahoo keeps minutes for 30 days, 5 and 15 minutes for 60 days, hours for two years: a range that begins before has no bars until
// then.
//
// Each call asks for a day more on both sides, because the time of a daily bar is that of its session, and so that a split is seen
// even if it is listed late.
func (p *Provider) Bars(ctx context.Context, symbol market.Symbol, interval market.Interval, from, to time.Time) (
	market.History, market.Response, error,
) {
	if err := upstream.CheckInterval(Name, interval, p.Intervals()); err != nil {
		return market.History{}, market.Response{}, err
	}
	segment, err := upstream.PathSegment(symbol)
	if err != nil {
		return market.History{}, market.Response{}, err
	}
	first := time.Unix(0, 0)
	if kept, limited := reach[interval]; limited {
		first = p.client.Now().Add(-kept)
	}
	if from.Before(first) {
		from = first
	}
	if !from.Before(to) {
		return market.History{}, market.Response{}, nil
	}
	end, next := upstream.Part(interval, from, to, most)
	answer, err := p.client.GetHistory(ctx, "/v8/finance/chart/"+segment, url.Values{
		"interval": {string(interval)}, "events": {"split"}, "includePrePost": {"false"},
		"period1": {strconv.FormatInt(max(from.Add(-day).Unix(), 0), 10)}, "period2": {strconv.FormatInt(end.Add(day).Unix(), 10)},
	})
	if err != nil {
		return market.History{}, answer.Response, err
	}
	history, err := parseHistory(symbol, interval, from, end, answer)
	if err != nil {
		return market.History{}, answer.Response, err
	}
	history.Next = next
	return history, answer.Response, nil
}

func parseHistory(symbol market.Symbol, interval market.Interval, from, to time.Time, a upstream.Answer) (market.History, error) {
	if hasNoData(a) {
		return market.History{}, nil
	}
	r, err := read(symbol, a)
	if err != nil {
		return market.History{}, err
	}
	s, err := readSeries(r, a.ReceivedAt)
	if err != nil {
		return market.History{}, err
	}
	bars, err := s.bars(interval)
	if err != nil {
		return market.History{}, err
	}
	splits, err := readSplits(r.Events)
	if err != nil {
		return market.History{}, err
	}
	return market.History{Bars: upstream.Finish(bars, from, to, s.clock, s.end(interval)), Splits: splits}, nil
}

// hasNoData reports whether the response is Yahoo's error for a range before the symbol's first trade, or before what Yahoo keeps.
func hasNoData(a upstream.Answer) bool {
	var c chart
	if a.Status != http.StatusBadRequest && a.Status != http.StatusUnprocessableEntity || a.Decode(&c) != nil || c.Chart == nil || c.Chart.Error == nil {
		return false
	}
	text := c.Chart.Error.Description
	return strings.HasPrefix(text, "Data doesn't exist for startDate") || strings.Contains(text, "requested range must be within the last")
}

// series has the members of a result that bars are read from.
type series struct {
	starts []int64 // seconds since 1970
	closes []*json.Number
	places int32
	offset time.Duration // of the exchange's clock now
	traded time.Time     // the last trade: Yahoo's clock
	clock  time.Time     // all until then has been seen
	// The newest session, which may not have begun; zero if the answer has none.
	open, close time.Time
}

func readSeries(r result, received time.Time) (series, error) {
	var s series
	var indicators struct {
		Quote []struct {
			Close []*json.Number `json:"close"`
		} `json:"quote"`
	}
	var period struct {
		Regular struct {
			Start int64 `json:"start"`
			End   int64 `json:"end"`
		} `json:"regular"`
	}
	var places, offset *int32
	for _, part := range []struct {
		text json.RawMessage
		into any
	}{
		{r.Timestamp, &s.starts},
		{r.Indicators, &indicators},
		{r.Meta.PriceHint, &places},
		{r.Meta.GMTOffset, &offset},
		{r.Meta.CurrentTradingPeriod, &period},
	} {
		if part.text == nil {
			continue
		}
		if err := json.Unmarshal(part.text, part.into); err != nil {
			return s, upstream.Malformed(err, "the chart's bars are not the provider's JSON")
		}
	}
	if len(indicators.Quote) > 0 {
		s.closes = indicators.Quote[0].Close
	}
	if len(s.starts) != len(s.closes) || places == nil || *places < 0 || *places > 18 || offset == nil {
		return s, upstream.Malformed(nil, "the chart's bars are not complete")
	}
	traded, err := upstream.Seconds(r.Meta.RegularMarketTime)
	if err != nil {
		return s, err
	}
	s.places, s.offset, s.traded = *places, time.Duration(*offset)*time.Second, traded
	if s.clock = traded; traded.Before(received.Add(-delay)) {
		s.clock = received.Add(-delay)
	}
	if period.Regular.Start < period.Regular.End {
		s.open, s.close = time.Unix(period.Regular.Start, 0).UTC(), time.Unix(period.Regular.End, 0).UTC()
		if s.close.Sub(s.open) > whole {
			s.close = s.open.Add(day)
		}
	}
	return s, nil
}

// bars returns the closes with their starts, in the order of the answer.
func (s series) bars(interval market.Interval) ([]market.Bar, error) {
	var bars []market.Bar
	for i, seconds := range s.starts {
		at, err := upstream.Observed(time.Unix(seconds, 0))
		if err != nil {
			return nil, err
		}
		if interval == market.Day {
			at = s.tradingDay(at)
		} else if s.isLastTrade(at, interval.Duration()) {
			continue
		}
		if upstream.IsMissing(s.closes[i]) {
			continue
		}
		price, err := market.ParseRounded(s.closes[i].String(), s.places)
		if err != nil {
			return nil, upstream.Malformed(err, "a close is not valid")
		}
		if !price.Decimal().IsZero() {
			bars = append(bars, market.Bar{Start: at, Close: price})
		}
	}
	return bars, nil
}

// isLastTrade reports whether an element of an intraday chart is the last trade, which follows the bars at its own time, and is no bar.
// It may fall on the start of a bar, or on the end of the session by chance. Sessions begin at a quarter of an hour.
func (s series) isLastTrade(at time.Time, interval time.Duration) bool {
	return !at.Equal(at.Truncate(min(interval, 15*time.Minute))) ||
		at.Equal(s.traded) && (!at.Before(s.close) || at.Sub(s.open)%interval != 0)
}

// tradingDay returns 00:00 UTC of the day that a session's time belongs to.
//
// The time is when the session began, or for the session of now the last trade. The answer has one offset, which is that of now, for
// bars on both sides of a change of the clocks, so the local time of a beginning may be wrong by an hour. Sessions begin in the course
// of the day or at midnight, never in its last hour: an hour more leads to the right day in both cases.
func (s series) tradingDay(at time.Time) time.Time {
	local := at.Add(s.offset)
	if !at.Equal(s.traded) {
		local = local.Add(time.Hour)
	}
	return local.Truncate(day)
}

// end returns the function that tells when an interval ends: the session of now may end before it, and a day ends with its session.
func (s series) end(interval market.Interval) func(time.Time) time.Time {
	return func(start time.Time) time.Time {
		end := start.Add(interval.Duration())
		if interval == market.Day {
			if !s.open.IsZero() && start.Equal(s.open.Add(s.offset).Truncate(day)) {
				return s.close
			}
			return end.Add(-s.offset)
		}
		if !start.Before(s.open) && start.Before(s.close) && s.close.Before(end) {
			return s.close
		}
		return end
	}
}

// ratio converts a split's numbers, which may have decimals, to integers.
func ratio(numerator, denominator *json.Number) (market.Split, error) {
	n, err := upstream.Price(numerator) // greater than 0, bounded and exact, too
	if err != nil {
		return market.Split{}, err
	}
	d, err := upstream.Price(denominator)
	if err != nil {
		return market.Split{}, err
	}
	places := max(n.Scale(), d.Scale())
	wholeN, wholeD := n.Decimal().Shift(places).BigInt(), d.Decimal().Shift(places).BigInt()
	if !wholeN.IsInt64() || !wholeD.IsInt64() {
		return market.Split{}, upstream.Malformed(nil, "a split's ratio is out of range")
	}
	return market.Split{Numerator: wholeN.Int64(), Denominator: wholeD.Int64()}, nil
}

// readSplits reads the member events, which is absent if there are none.
func readSplits(events json.RawMessage) ([]market.Split, error) {
	var e struct {
		Splits map[string]struct {
			Date        *json.Number `json:"date"`
			Numerator   *json.Number `json:"numerator"`
			Denominator *json.Number `json:"denominator"`
		} `json:"splits"`
	}
	if events == nil {
		return nil, nil
	}
	if err := json.Unmarshal(events, &e); err != nil {
		return nil, upstream.Malformed(err, "the chart's splits are not the provider's JSON")
	}
	var splits []market.Split
	for _, s := range e.Splits {
		at, err := upstream.Seconds(s.Date)
		if err != nil {
			return nil, err
		}
		split, err := ratio(s.Numerator, s.Denominator)
		if err != nil {
			return nil, err
		}
		split.At = at
		splits = append(splits, split)
	}
	slices.SortFunc(splits, func(a, b market.Split) int { return a.At.Compare(b.At) })
	return splits, nil
}
