package ingest

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"marketdata/shared/fault"
	"marketdata/shared/market"
	"marketdata/shared/priceevent"
	"marketdata/shared/request"
	"marketdata/shared/testenv/scrape"
)

// historian is a provider with a history of one bar.
type historian struct{ providerFunc }

func (historian) Intervals() []market.Interval { return []market.Interval{market.Day} }

func (h historian) Bars(_ context.Context, _ market.Symbol, _ market.Interval, from, _ time.Time) (market.History, market.Response, error) {
	if err := h.providerFunc(); err != nil {
		return market.History{}, market.Response{}, err
	}
	return market.History{Bars: []market.Bar{{Start: from, Final: true}}}, market.Response{Status: http.StatusOK}, nil
}

// withoutStorage returns an ingester that fetches and stores nothing.
func withoutStorage(t *testing.T, providers map[string]market.Provider) *Ingester {
	t.Helper()
	in := New(nil, nil, "price-events", providers, slog.New(slog.DiscardHandler))
	t.Cleanup(in.Close)
	return in
}

func TestFetchBars(t *testing.T) {
	t.Parallel()
	var down error
	in := withoutStorage(t, map[string]market.Provider{
		"quotes": providerFunc(func() error { return nil }), "bars": historian{func() error { return down }},
	})
	set := metrics.NewSet()
	in.Observe(set)
	calls := func(provider, outcome string) float64 {
		return scrape.Values(t, set.WritePrometheus)[fmt.Sprintf("marketdata_provider_calls_total{provider=%q,outcome=%q}", provider, outcome)]
	}
	from := time.Date(2024, 3, 20, 0, 0, 0, 0, time.UTC)
	fetch := func(provider string) (market.History, market.Response, error) {
		return in.FetchBars(t.Context(), provider, "AAPL", market.Day, from, from.AddDate(0, 0, 1))
	}
	history, response, err := fetch("bars")
	require.NoError(t, err)
	require.Equal(t, from, history.Bars[0].Start)
	require.Equal(t, http.StatusOK, response.Status)
	require.InDelta(t, 1, calls("bars", "ok"), 0)

	down = fault.New(fault.Unavailable, fault.CodeProviderTimeout, "x")
	history, response, err = fetch("bars")
	require.ErrorIs(t, err, down)
	require.Zero(t, history)
	require.Zero(t, response)
	require.InDelta(t, 1, calls("bars", "provider_timeout"), 0)
	require.InDelta(t, 1, calls("bars", "ok"), 0)

	for _, provider := range []string{"quotes", "nobody"} {
		require.Nil(t, in.Historian(provider))
		_, _, err = fetch(provider)
		require.Equal(t, fault.CodeNoHistory, fault.CodeOf(err))
		require.Equal(t, fault.Invalid, fault.KindOf(err))
		require.Zero(t, calls(provider, "ok"), "no call is made")
	}
}

// A call for bars spends what quotes leave. Without a budget there is no limit.
func TestBarsAreReservedFromWhatQuotesLeave(t *testing.T) {
	t.Parallel()
	in := withoutStorage(t, map[string]market.Provider{"p": providerFunc(func() error { return nil })})
	require.NoError(t, in.ReserveSpare(t.Context(), "p"))
	require.NoError(t, in.Reserve(t.Context(), "p"))
	spent := fault.New(fault.Unavailable, fault.CodeProviderRateLimited, "x")
	in.Within(budgetFunc(func(_ context.Context, asked string) error {
		require.Equal(t, "spare p", asked)
		return spent
	}))
	require.Equal(t, spent, in.ReserveSpare(t.Context(), "p"))
}

func TestProviders(t *testing.T) {
	t.Parallel()
	all := map[string]market.Provider{}
	for _, name := range []string{"yfinance", "binance", "finnhub"} {
		all[name] = providerFunc(func() error { return nil })
	}
	in := withoutStorage(t, all)
	require.Equal(t, []string{"binance", "finnhub", "yfinance"}, in.Providers())
	require.True(t, in.Known("finnhub"))
	require.False(t, in.Known("nobody"))
	_, err := in.FetchReserved(t.Context(), time.Time{}, "nobody", "AAPL")
	require.Equal(t, fault.CodeUnknownProvider, fault.CodeOf(err))
	require.Equal(t, fault.Invalid, fault.KindOf(err))
}

// An event carries the trace of its request on, if there is one. Its headers have one order.
func TestEventsCarryTheTraceOn(t *testing.T) {
	t.Parallel()
	in := withoutStorage(t, nil)
	price, err := market.ParsePrice("150.25")
	require.NoError(t, err)
	o := priceevent.Observation{Symbol: "AAPL", Provider: "p", Price: price, ObservedAt: time.Unix(0, 0).UTC(), RawResponseID: uuid.New()}
	const trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	for _, header := range []string{trace, ""} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Traceparent", header)
		r, _ = request.Begin(r)
		record, err := in.record(r.Context(), o)
		require.NoError(t, err)
		var names []string
		for _, h := range record.Headers {
			names = append(names, h.Name)
			if h.Name == "traceparent" {
				require.Equal(t, trace, string(h.Value))
			}
		}
		require.Equal(t, header != "", slices.Contains(names, "traceparent"), names)
		require.IsIncreasing(t, names)
	}
}

// Quotes of a transaction are stored one by one if one of them may have failed it, but not during an outage.
func TestErrorsThatSplitATransaction(t *testing.T) {
	t.Parallel()
	for code, split := range map[string]bool{"21000": true, "22021": true, "23514": true, "08006": false, "40P01": false, "53300": false, "57014": false} {
		require.Equal(t, split, storesTogether.Split(fmt.Errorf("store quotes: %w", &pgconn.PgError{Code: code})), code)
	}
}
