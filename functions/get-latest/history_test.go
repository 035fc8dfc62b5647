package main

import (
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/shared/market"
	"marketdata/shared/timerange"
)

// series is a model of price_points for one series: sorted times.
type series []time.Time

func (s series) history(t *testing.T) pointsFunc {
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
	b := setup(t)
	b.handler.points = s.history(t)
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
	b := setup(t)
	w, _ := b.get(t, "/prices/history?symbol=AAPL")
	require.Equal(t, `{"symbol":"AAPL","provider":"yfinance","prices":[],"next_page_token":null}`+"\n", w.Body.String()) //nolint:testifylint // byte for byte
	b.handler.points = series{time.Date(2024, 3, 20, 10, 30, 0, 0, time.UTC)}.history(t)
	w, _ = b.get(t, "/prices/history?symbol=AAPL&provider=any-source")
	require.Equal(t, `{"symbol":"AAPL","provider":"any-source","prices":[{"timestamp":"2024-03-20T10:30:00Z","price":1.5,"raw_response_id":"`+
		rawID.String()+`"}],"next_page_token":null}`+"\n", w.Body.String())
}

func TestHistoryRefuses(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.handler.points = series{time.UnixMicro(1), time.UnixMicro(2)}.history(t)
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

func TestBoundsOfASpan(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var got span
	b.handler.points = pointsFunc(func(q span, _ int) ([]point, error) { got = q; return nil, nil })
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
	open, err := timerange.Parse("", "")
	require.NoError(f, err)
	q := span{symbol: "AAPL", provider: "yfinance", Range: open}
	f.Add(newToken(time.UnixMicro(1), q))
	f.Add(newToken(open.To, q)) // no point can be there
	f.Add(url.QueryEscape("AAAA===="))
	f.Fuzz(func(t *testing.T, token string) {
		if last, err := readToken(token, q); err == nil {
			require.Equal(t, token, newToken(last, q))
		}
	})
}
