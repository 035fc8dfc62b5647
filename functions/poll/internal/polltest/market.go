package polltest

import (
	"context"
	"sync"
	"time"

	"github.com/shopspring/decimal"

	"marketdata/shared/fault"
	"marketdata/shared/market"
)

// Market is a provider with a history of daily bars on weekdays, whose closes are in today's shares. Its clock may be behind, so that
// later bars come into being when a test moves it. Set fields between calls, or in During.
type Market struct {
	Called  string                            // the name of the provider
	Limit   int                               // bars in one answer; 0: all
	Unlists bool                              // it does not list splits
	During  func(symbol market.Symbol, n int) // comes before the n-th call for a symbol is answered, from 1
	Fail    func() error                      // is the answer if it returns an error
	Symbol  market.Symbol                     // the only one it knows; empty: all

	mu     sync.Mutex
	clock  time.Time
	splits map[market.Symbol][]market.Split
	nulls  map[time.Time]bool
	calls  map[market.Symbol]int
}

// Day returns the day that is n weekdays' closes before today, UTC; a close comes into being at the end of its day.
func Day(n int) time.Time {
	day := time.Now().UTC().Truncate(24 * time.Hour)
	for ; n > 0; n-- {
		for day = day.AddDate(0, 0, -1); isWeekend(day); day = day.AddDate(0, 0, -1) {
		}
	}
	return day
}

func isWeekend(day time.Time) bool {
	return day.Weekday() == time.Saturday || day.Weekday() == time.Sunday
}

// Name implements market.Provider.
func (m *Market) Name() string { return m.Called }

// Latest is not needed.
func (m *Market) Latest(context.Context, market.Symbol) (market.Quote, market.Response, error) {
	return market.Quote{}, market.Response{}, fault.New(fault.NotFound, fault.CodeSymbolNotFound, "x")
}

// Set moves the market's clock.
func (m *Market) Set(clock time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.clock = clock
}

// Announce announces splits of a symbol in place of those before.
func (m *Market) Announce(symbol market.Symbol, splits ...market.Split) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.splits == nil {
		m.splits = map[market.Symbol][]market.Split{}
	}
	m.splits[symbol] = splits
}

// Lose makes closes of days missing in place of those before.
func (m *Market) Lose(days ...time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.nulls = map[time.Time]bool{}
	for _, day := range days {
		m.nulls[day] = true
	}
}

// Calls returns how often Bars was called.
func (m *Market) Calls() (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, calls := range m.calls {
		n += calls
	}
	return n
}

// Closes returns the closes of a symbol from a day on that are final, as of now, by date.
func (m *Market) Closes(symbol market.Symbol, from time.Time) map[string]string {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := map[string]string{}
	for _, b := range m.bars(symbol, from, m.clock) {
		if b.Final {
			all[b.Start.Format(time.DateOnly)] = b.Close.String()
		}
	}
	return all
}

// Intervals implements market.Historian.
func (m *Market) Intervals() []market.Interval { return []market.Interval{market.Day} }

// Bars implements market.Historian.
func (m *Market) Bars(_ context.Context, symbol market.Symbol, _ market.Interval, from, to time.Time) (market.History, market.Response, error) {
	m.mu.Lock()
	if m.calls == nil {
		m.calls = map[market.Symbol]int{}
	}
	m.calls[symbol]++
	n, during := m.calls[symbol], m.During
	m.mu.Unlock()
	if during != nil {
		during(symbol, n)
	}
	if m.Fail != nil {
		if err := m.Fail(); err != nil {
			return market.History{}, market.Response{}, err
		}
	}
	if m.Symbol != "" && symbol != m.Symbol {
		return market.History{}, market.Response{}, fault.New(fault.NotFound, fault.CodeSymbolNotFound, "x")
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	h := market.History{Bars: m.bars(symbol, from, to)}
	if m.Limit > 0 && len(h.Bars) > m.Limit {
		h.Bars, h.Next = h.Bars[:m.Limit], h.Bars[m.Limit].Start
		to = h.Next
	}
	for _, s := range m.splits[symbol] {
		if !m.Unlists && !s.At.Before(from.AddDate(0, 0, -1)) && s.At.Before(to.AddDate(0, 0, 1)) {
			h.Splits = append(h.Splits, s)
		}
	}
	return h, market.Response{Status: 200, Body: []byte("{}"), ReceivedAt: time.Now()}, nil
}

// bars returns the bars in [from, to): each day's close is 100 and the day's number in hundredths, in the shares of today.
func (m *Market) bars(symbol market.Symbol, from, to time.Time) (all []market.Bar) {
	for day := from.UTC().Truncate(24 * time.Hour); day.Before(to) && !day.After(m.clock); day = day.AddDate(0, 0, 1) {
		if day.Before(from) || isWeekend(day) || m.nulls[day] {
			continue
		}
		value := decimal.New(10_000+day.Unix()/86_400%5_000, -2)
		for _, s := range m.splits[symbol] {
			if day.Before(s.At) {
				value = value.Mul(decimal.NewFromInt(s.Denominator)).DivRound(decimal.NewFromInt(s.Numerator), 4)
			}
		}
		all = append(all, market.Bar{Start: day, Close: market.NewPrice(value), Final: !m.clock.Before(day.AddDate(0, 0, 1))})
	}
	return all
}

// Ratio returns a split at the beginning of a day.
func Ratio(at time.Time, numerator, denominator int64) market.Split {
	return market.Split{At: at, Numerator: numerator, Denominator: denominator}
}
