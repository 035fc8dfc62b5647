package history

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"marketdata/shared/api"
	"marketdata/shared/fault"
	"marketdata/shared/market"
	"marketdata/shared/pricecache"
	"marketdata/shared/ratelimit"
	"marketdata/shared/service"
	"marketdata/shared/testenv/apidoc"
	"marketdata/shared/testenv/call"
	"marketdata/shared/timerange"
)

type pointsFunc func(q span, limit int) ([]point, error)

func (f pointsFunc) read(_ context.Context, q span, limit int) ([]point, error) {
	return f(q, limit)
}

type quotesFunc func(provider string, symbol market.Symbol) (pricecache.Entry, error)

func (f quotesFunc) Get(_ context.Context, provider string, symbol market.Symbol) (pricecache.Entry, bool, error) {
	e, err := f(provider, symbol)
	return e, e != pricecache.Entry{}, err
}

var rawID = uuid.MustParse("0190f5d8-0000-7000-8000-000000000001")

func noQuote(string, market.Symbol) (pricecache.Entry, error) { return pricecache.Entry{}, nil }

type bundle struct {
	api     *API
	service *service.Service
	routes  *api.API
}

func setup() *bundle {
	b := &bundle{api: &API{pointsFunc(func(span, int) ([]point, error) { return nil, nil }), quotesFunc(noQuote), "yfinance"}}
	b.service = service.New(service.Config{}, slog.New(slog.DiscardHandler))
	b.routes = api.New(b.service, "get-latest", "")
	b.api.Routes(b.routes, func(next http.Handler) http.Handler { return next })
	return b
}

func (b *bundle) get(t *testing.T, target string) (w *httptest.ResponseRecorder, body map[string]any) {
	t.Helper()
	w = call.Do(b.service.Handler(), http.MethodGet, target, "")
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &body), w.Body.String())
	return w, body
}

// series is a model of price_points for one series: sorted times.
type series []time.Time

func (s series) points(t *testing.T) pointsFunc {
	t.Helper()
	one, err := market.ParsePrice("1.5")
	require.NoError(t, err)
	return func(q span, limit int) ([]point, error) {
		var out []point
		for _, at := range s {
			if !at.Before(q.From) && at.Before(q.To) {
				out = append(out, point{at, one, rawID})
			}
		}
		if q.descending {
			slices.Reverse(out)
		}
		return out[:min(len(out), limit)], nil
	}
}

func TestDocumentDescribesTheQuery(t *testing.T) {
	t.Parallel()
	routes := setup().routes
	routes.Document(ratelimit.Document)
	doc := routes.OpenAPI()
	apidoc.Check(t, doc)
	require.Equal(t, market.SymbolPattern, api.Parameter(doc, "/prices/history", "symbol").Pattern)
	require.Equal(t, market.ProviderPattern, api.Parameter(doc, "/prices/history", "provider").Pattern)
}

// The currency of a history is that of the newest quote, also for bars. Without a quote, or a cache, there is none.
func TestCurrencyIsThatOfTheQuotes(t *testing.T) {
	t.Parallel()
	b := setup()
	b.api.quotes = quotesFunc(func(provider string, symbol market.Symbol) (pricecache.Entry, error) {
		if provider != "yfinance" {
			return pricecache.Entry{}, nil
		}
		return pricecache.Entry{Quote: market.Quote{Symbol: symbol, Currency: "GBp"}}, nil
	})
	for provider, want := range map[string]any{"yfinance": "GBp", "yfinance-1d": "GBp", "coinbase": nil, "coinbase-1d": nil} {
		t.Run(provider, func(t *testing.T) {
			t.Parallel()
			w, body := b.get(t, "/prices/history?symbol=TSCO.L&provider="+provider)
			require.Equal(t, http.StatusOK, w.Code)
			require.Equal(t, want, body["currency"])
		})
	}
	away := setup()
	away.api.quotes = quotesFunc(func(string, market.Symbol) (pricecache.Entry, error) {
		return pricecache.Entry{}, errors.New("redis is away")
	})
	w, body := away.get(t, "/prices/history?symbol=TSCO.L&provider=yfinance")
	require.Equal(t, http.StatusOK, w.Code)
	require.NotContains(t, body, "currency")
}

// For any order and page size, the pages together hold each point of the series once.
func TestPagesCoverTheSeries(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(3, 4))
	at := time.Date(2024, 3, 20, 10, 30, 0, 0, time.UTC)
	var s series
	for range 100 {
		s = append(s, at)
		at = at.Add(time.Duration(1+rng.IntN(3)) * time.Microsecond)
	}
	b := setup()
	b.api.points = s.points(t)
	for _, order := range []string{"asc", "desc"} {
		for _, limit := range []string{"1", "7", "33", "100", "1000"} {
			var got []string
			token, pages := "", 0
			for {
				target := "/prices/history?symbol=aapl&order=" + order + "&limit=" + limit
				if token != "" {
					target += "&page_token=" + token
				}
				w, body := b.get(t, target)
				require.Equal(t, http.StatusOK, w.Code, w.Body.String())
				prices, ok := body["prices"].([]any)
				require.True(t, ok)
				for _, p := range prices {
					p, ok := p.(map[string]any)
					require.True(t, ok)
					text, _ := p["timestamp"].(string)
					got = append(got, text)
				}
				if token, ok = body["next_page_token"].(string); !ok {
					require.Nil(t, body["next_page_token"])
					break
				}
				require.NotEmpty(t, prices)
				pages++
				require.Less(t, pages, 101)
			}
			want := make([]string, len(s))
			for i, at := range s {
				want[i] = at.Format(time.RFC3339Nano)
			}
			if order == "desc" {
				slices.Reverse(want)
			}
			require.Equal(t, want, got, "%s %s", order, limit)
		}
	}
}

func TestHistoryBody(t *testing.T) {
	t.Parallel()
	b := setup()
	w, _ := b.get(t, "/prices/history?symbol=AAPL")
	require.Equal(t, `{"symbol":"AAPL","provider":"yfinance","prices":[],"next_page_token":null}`+"\n", w.Body.String()) //nolint:testifylint // byte for byte
	b.api.points = series{time.Date(2024, 3, 20, 10, 30, 0, 0, time.UTC)}.points(t)
	w, _ = b.get(t, "/prices/history?symbol=AAPL&provider=any-source")
	require.Equal(t, `{"symbol":"AAPL","provider":"any-source","prices":[{"timestamp":"2024-03-20T10:30:00Z","price":1.5,"raw_response_id":"`+
		rawID.String()+`"}],"next_page_token":null}`+"\n", w.Body.String())
}

func TestHistoryRefuses(t *testing.T) {
	t.Parallel()
	b := setup()
	b.api.points = series{time.UnixMicro(1), time.UnixMicro(2)}.points(t)
	_, body := b.get(t, "/prices/history?symbol=AAPL&limit=1")
	token, ok := body["next_page_token"].(string)
	require.True(t, ok)
	for query, code := range map[string]string{
		"": "invalid_parameter", "symbol=A%20B": "invalid_symbol", "symbol=AAPL&provider=X": "invalid_provider", "symbol=AAPL&provider=auto": "invalid_provider",
		"symbol=AAPL&limit=0": "invalid_parameter", "symbol=AAPL&limit=10001": "invalid_parameter", "symbol=AAPL&limit=x": "invalid_parameter",
		"symbol=AAPL&order=up": "invalid_parameter", "symbol=AAPL&start=yesterday": "invalid_parameter", "symbol=AAPL&end=2024-13-01": "invalid_parameter",
		"symbol=AAPL&start=2024-01-02&end=2024-01-01": "invalid_parameter", "symbol=AAPL&x=1": "invalid_parameter",
		"symbol=AAPL&start=99999999999999999999": "invalid_parameter", "symbol=AAPL&start=2024": "invalid_parameter", "symbol=AAPL&end=2024": "invalid_parameter",
		"symbol=AAPL&page_token=x": "invalid_parameter", "symbol=AAPL&page_token=" + strings.Repeat("A", 65): "invalid_parameter",
		"symbol=MSFT&page_token=" + token: "invalid_parameter", "symbol=AAPL&provider=binance&page_token=" + token: "invalid_parameter",
		"symbol=AAPL&order=desc&page_token=" + token: "invalid_parameter", "symbol=AAPL&start=2024-01-01&page_token=" + token: "invalid_parameter",
	} {
		w, body := b.get(t, "/prices/history?"+query)
		require.Equal(t, http.StatusBadRequest, w.Code, query)
		require.Equal(t, code, body["code"], query)
	}
	w, _ := b.get(t, "/prices/history?symbol=AAPL&limit=2&page_token="+token)
	require.Equal(t, http.StatusOK, w.Code, "the page size may change between pages")
}

// A history that cannot be read is an error in both formats, never an empty one.
func TestHistoryThatCannotBeRead(t *testing.T) {
	t.Parallel()
	b := setup()
	b.api.points = pointsFunc(func(span, int) ([]point, error) {
		return nil, fault.New(fault.Unavailable, fault.CodeStorageUnavailable, "x")
	})
	for _, format := range []string{"json", "csv"} {
		w, body := b.get(t, "/prices/history?symbol=AAPL&format="+format)
		require.Equal(t, http.StatusServiceUnavailable, w.Code, format)
		require.Equal(t, "storage_unavailable", body["code"], format)
	}
}

func TestBoundsOfASpan(t *testing.T) {
	t.Parallel()
	b := setup()
	var got span
	b.api.points = pointsFunc(func(q span, _ int) ([]point, error) { got = q; return nil, nil })
	cases := map[string][2]string{
		"":                                    {"0001-01-01T00:00:00Z", "10000-01-01T00:00:00Z"},
		"start=2024-03-20T10:30:00%2B02:00":   {"2024-03-20T08:30:00Z", "10000-01-01T00:00:00Z"},
		"start=2024-03-20&end=2024-03-21":     {"2024-03-20T00:00:00Z", "2024-03-21T00:00:00Z"},
		"start=1710930600123&end=2024-03-21":  {"2024-03-20T10:30:00.123Z", "2024-03-21T00:00:00Z"},
		"start=2024-03-20T10:30:00.0000005Z":  {"2024-03-20T10:30:00.000001Z", "10000-01-01T00:00:00Z"},
		"end=2024-03-20T10:30:00.000000001Z":  {"0001-01-01T00:00:00Z", "2024-03-20T10:30:00.000001Z"},
		"end=2024-03-20T10:30:00.0000010000Z": {"0001-01-01T00:00:00Z", "2024-03-20T10:30:00.000001Z"},
	}
	for query, want := range cases {
		w, _ := b.get(t, "/prices/history?symbol=AAPL&"+query)
		require.Equal(t, http.StatusOK, w.Code, "%s: %s", query, w.Body.String())
		require.Equal(t, want, [2]string{got.From.Format(time.RFC3339Nano), got.To.Format(time.RFC3339Nano)}, query)
	}
}

// FuzzPageToken checks that a token is either refused or one that this query could have returned, and that nothing panics.
func FuzzPageToken(f *testing.F) {
	march, err := timerange.Parse("2024-03-01", "2024-04-01")
	require.NoError(f, err)
	q := span{symbol: "AAPL", provider: "yfinance", Range: march}
	for _, at := range []time.Time{march.From.Add(-time.Microsecond), march.From, march.To.Add(-time.Microsecond), march.To} { // no point can be at the first or the last
		f.Add(newToken(at, q))
	}
	f.Add(url.QueryEscape("AAAA===="))
	f.Add("")
	f.Fuzz(func(t *testing.T, token string) {
		if last, err := readToken(token, q); err == nil {
			require.Equal(t, token, newToken(last, q))
			require.True(t, !last.Before(march.From) && last.Before(march.To))
		}
	})
}
