package averages_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"maps"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/functions/compute-ma/internal/averages"
	"marketdata/functions/compute-ma/internal/model"
	"marketdata/functions/compute-ma/internal/series"
	"marketdata/functions/compute-ma/internal/store"
	"marketdata/shared/api"
	"marketdata/shared/fault"
	"marketdata/shared/market"
	"marketdata/shared/ratelimit"
	"marketdata/shared/service"
	"marketdata/shared/testenv/apidoc"
)

type fakeReader struct {
	average series.Average
	history []series.Point
	err     error // of all reads but Adjusting

	listed []store.Listed

	gate              chan struct{} // unless it is nil, points are not read before it is closed
	adjusting, frozen bool
	adjustingErr      error
	checked           []int64
}

func (s *fakeReader) Adjusting(_ context.Context, _ series.Key, first, last int64) (bool, error) {
	s.checked = append(s.checked, first, last)
	return s.adjusting && s.frozen, s.adjustingErr
}

func (s *fakeReader) Series(_ context.Context, after series.Key, limit int) (all []store.Listed, last series.Key, more bool, err error) {
	for _, l := range s.listed {
		if l.Key.Compare(after) <= 0 {
			continue
		}
		if len(all) == limit {
			return all, last, true, s.err
		}
		all, last = append(all, l), l.Key
	}
	return all, last, false, s.err
}

func (s *fakeReader) Snapshot(_ context.Context, f func(averages.Reader) error) error {
	frozen := *s
	frozen.frozen = true
	s.history = nil // as if the points were deleted meanwhile
	err := f(&frozen)
	s.history, s.checked = frozen.history, frozen.checked
	return err
}

func (s *fakeReader) LatestAverage(context.Context, series.Key, int) (series.Average, error) {
	return s.average, s.err
}

func (s *fakeReader) ComputeAverage(ctx context.Context, k series.Key, window int) (series.Average, error) {
	points, err := s.PointsBefore(ctx, k, series.Range{To: math.MaxInt64}, window)
	slices.Reverse(points)
	return series.Newest{Points: points}.Averages([]int{window})[0], err
}

func (s *fakeReader) Points(_ context.Context, _ series.Key, r series.Range, limit int) ([]series.Point, error) {
	if s.gate != nil {
		<-s.gate
	}
	var out []series.Point
	for _, p := range s.history {
		if p.At >= r.From && p.At < r.To && len(out) < limit {
			out = append(out, p)
		}
	}
	return out, s.err
}

func (s *fakeReader) PointsBefore(ctx context.Context, k series.Key, r series.Range, limit int) ([]series.Point, error) {
	all, err := s.Points(ctx, k, r, len(s.history))
	return all[max(len(all)-limit, 0):], err
}

func unlimited(next http.Handler) http.Handler { return next }

type bundle struct {
	store  *fakeReader
	http   http.Handler
	routes *api.API
}

func setup() bundle {
	b := bundle{store: &fakeReader{}}
	srv := service.New(service.Config{}, slog.New(slog.DiscardHandler))
	b.routes = api.New(srv, "compute-ma", "")
	averages.New(averages.Config{
		Reads: b.store, Windows: []int{5, 20}, DefaultProvider: "coinbase", Secret: "postgres://u:p@h/d",
	}).Routes(b.routes, unlimited)
	b.routes.Document(ratelimit.Document)
	b.http = srv.Handler()
	return b
}

func (b bundle) get(target string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	b.http.ServeHTTP(w, httptest.NewRequest(http.MethodGet, target, nil))
	return w
}

func value(t *testing.T, price string) series.Value {
	t.Helper()
	return series.NewValue(model.Prices(t, price)[0].Decimal())
}

// talib is the series of TA-Lib's regression test, one close a second.
func talib(t *testing.T) []series.Point {
	t.Helper()
	raw, err := os.ReadFile("../series/testdata/talib_close252.txt")
	require.NoError(t, err)
	var points []series.Point
	for i, text := range strings.Split(string(bytes.TrimSpace(raw)), ",") {
		points = append(points, series.Point{At: int64(i) * 1e6, Price: value(t, text)})
	}
	return points
}

func TestLatestAverage(t *testing.T) {
	t.Parallel()
	b := setup()
	at := time.Date(2024, 3, 20, 10, 30, 0, 0, time.UTC)
	b.store.average = series.Average{
		Window: 5, PointsUsed: 5, Mean: value(t, "150.250000000000000001"), AsOf: at.UnixMicro(), Oldest: at.Add(-time.Hour).UnixMicro(),
	}
	get := func(query string) *httptest.ResponseRecorder { return b.get("/averages/latest?" + query) }
	w := get("symbol=aapl&provider=yfinance&window=5")
	require.Equal(t, 200, w.Code)
	require.Contains(t, get("symbol=aapl").Body.String(), `"provider":"coinbase"`, "the default of the whole system")
	require.Contains(t, b.get("/averages/history?symbol=aapl").Body.String(), `"provider":"coinbase"`)
	//nolint:testifylint // byte for byte: JSONEq would let the digits pass through float64
	require.Equal(t, `{"symbol":"AAPL","provider":"yfinance","window":5,"average":150.250000000000000001,"points_used":5,"complete":true,`+
		`"as_of":"2024-03-20T10:30:00Z","oldest":"2024-03-20T09:30:00Z"}`+"\n", w.Body.String())
	for query, code := range map[string]string{
		"": "invalid_parameter", "symbol=A%20B": "invalid_symbol", "symbol=A&window=0": "invalid_parameter", "symbol=A&window=501": "invalid_parameter", "symbol=A&window=x": "invalid_parameter",
		"symbol=A&provider=X": "invalid_provider", "symbol=A&x=1": "invalid_parameter",
	} {
		w := get(query)
		require.Equal(t, 400, w.Code, query)
		require.Contains(t, w.Body.String(), `"code":"`+code+`"`, query)
	}
	b.store.err = fault.New(fault.NotFound, "average_not_found", "x")
	require.Equal(t, 404, get("symbol=A").Code)
}

// A window that is not stored is computed from the points, and says so.
func TestLatestAverageOfAnyWindow(t *testing.T) {
	t.Parallel()
	b := setup()
	b.store.history = talib(t)
	for query, want := range map[string]string{
		"window=3": `"window":3,"average":108.54,"points_used":3,"complete":true,"as_of":"1970-01-01T00:04:11Z","oldest":"1970-01-01T00:04:09Z","computed":true}`,
		"window=500": `"window":500,"average":107.67077380952381,"points_used":252,"complete":false,` +
			`"as_of":"1970-01-01T00:04:11Z","oldest":"1970-01-01T00:00:00Z","computed":true}`,
	} {
		t.Run(query, func(t *testing.T) {
			t.Parallel()
			w := b.get("/averages/latest?symbol=TALIB&provider=p&" + query)
			require.Equal(t, 200, w.Code, w.Body.String())
			require.Equal(t, `{"symbol":"TALIB","provider":"p",`+want+"\n", w.Body.String())
		})
	}
}

// What is refused is not valid by the document, and its documentation offers what there is.
func TestDocumentNamesBoundsAndForms(t *testing.T) {
	t.Parallel()
	w := setup().get("/openapi.json")
	var doc struct {
		Paths map[string]struct {
			Get struct {
				Parameters []struct {
					Name   string
					Schema struct {
						Pattern          string
						MaxLength        int
						Minimum, Maximum float64
					}
				}
			}
		}
	}
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &doc))
	for path, o := range doc.Paths {
		for _, p := range o.Get.Parameters {
			switch p.Name {
			case "symbol":
				require.Equal(t, market.SymbolPattern, p.Schema.Pattern, path)
				require.Equal(t, 32, p.Schema.MaxLength, path)
			case "provider":
				require.Equal(t, market.ProviderPattern, p.Schema.Pattern, path)
			case "window":
				require.Equal(t, []float64{1, 500}, []float64{p.Schema.Minimum, p.Schema.Maximum}, path)
			}
		}
	}
	require.Len(t, doc.Paths, 3)
	apidoc.Check(t, setup().routes.OpenAPI())
	require.Contains(t, setup().get("/averages/latest?symbol=-").Body.String(), "invalid_symbol", "the route's own code, not the library's")
}

func TestAverageHistoryPagesJoinWithoutASeam(t *testing.T) {
	t.Parallel()
	b := setup()
	b.store.history = talib(t)
	type page struct {
		Averages []struct {
			AsOf       string          `json:"as_of"`
			Average    json.RawMessage `json:"average"`
			Previous   json.RawMessage `json:"previous"`
			Underlying []struct{ Price json.RawMessage }
		}
		Next *string `json:"next_page_token"`
	}
	read := func(query string) (p page) {
		w := b.get("/averages/history?symbol=TALIB&" + query)
		require.Equal(t, 200, w.Code, w.Body.String())
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &p))
		return p
	}
	for _, kind := range []string{"sma", "wma", "ema"} {
		query := "kind=" + kind + "&window=30&start=1970-01-01T00:00:05Z"
		whole := read(query)
		require.Len(t, whole.Averages, 252-5-29, "only full windows of the range")
		require.Nil(t, whole.Next)
		var joined page
		token, pages := "", 0
		for {
			p := read(query + "&limit=50" + token)
			joined.Averages = append(joined.Averages, p.Averages...)
			if pages++; p.Next == nil {
				break
			}
			token = "&page_token=" + *p.Next
		}
		require.Equal(t, 5, pages)
		require.Equal(t, whole, joined, kind)
		require.Equal(t, "1970-01-01T00:00:34Z", whole.Averages[0].AsOf)

		expanded := read(query + "&expand_underlying=true&limit=60")
		require.Equal(t, whole.Averages[59].Average, expanded.Averages[59].Average)
		require.Len(t, expanded.Averages[0].Underlying, 30)
		require.JSONEq(t, "94.625", string(expanded.Averages[0].Underlying[0].Price), "the range's first point")
		require.Empty(t, expanded.Averages[0].Previous)
		if second := expanded.Averages[1]; kind == "ema" {
			require.Len(t, second.Underlying, 1, "the point since the first")
			require.Equal(t, expanded.Averages[0].Average, second.Previous)
		} else {
			require.Len(t, second.Underlying, 30)
			require.Empty(t, second.Previous)
		}
		first := read(query + "&expand_underlying=true&limit=1")
		require.Equal(t, expanded.Averages[1], read(query + "&expand_underlying=true&limit=1&page_token=" + *first.Next).Averages[0])
	}
	require.Empty(t, read("window=500&expand_underlying=true&limit=200").Averages, "100,000 points are allowed")
	exact := read("window=5")
	require.Equal(t, "93.913", string(exact.Averages[0].Average))
	require.Empty(t, read("window=500").Averages)

	// A token says what an answer said, and nothing else.
	for _, kind := range []string{"sma", "ema"} {
		query := "kind=" + kind + "&window=5&limit=3"
		token := *read(query).Next
		raw, err := base64.RawURLEncoding.DecodeString(token)
		require.NoError(t, err)
		const signature = 16 // bytes
		var cursor map[string]any
		require.NoError(t, json.Unmarshal(raw[signature:], &cursor))
		forged := []string{token[:len(token)-4], token + "AAAA"}
		for i := range signature {
			other := bytes.Clone(raw)
			other[i] ^= 1
			forged = append(forged, base64.RawURLEncoding.EncodeToString(other))
		}
		for _, member := range []string{"a", "s"} {
			for _, value := range []any{"1e10000", "-1e5", "0", "93.9", "", nil, 7, -1, 1e15, "AAAA", strings.Repeat("1", 300), "NaN"} {
				other := maps.Clone(cursor)
				other[member] = value
				text, err := json.Marshal(other)
				require.NoError(t, err)
				if string(text) == string(raw[signature:]) {
					continue
				}
				forged = append(forged, base64.RawURLEncoding.EncodeToString(append(raw[:signature:signature], text...)))
			}
		}
		for _, f := range forged {
			w := b.get("/averages/history?symbol=TALIB&" + query + "&page_token=" + f)
			require.Equal(t, 400, w.Code, "%s gave %s", f, w.Body)
		}
	}

	token := *read("limit=3").Next
	for query, code := range map[string]string{
		"kind=hma": "invalid_parameter", "window=0": "invalid_parameter", "window=501": "invalid_parameter", "start=yesterday": "invalid_parameter",
		"start=2024-01-02&end=2024-01-01": "invalid_parameter", "limit=0": "invalid_parameter", "page_token=x": "invalid_parameter",
		"window=6&page_token=" + token: "invalid_parameter", "expand_underlying=true&limit=9091&window=11": "invalid_parameter",
		"provider=X": "invalid_provider",
	} {
		t.Run(query, func(t *testing.T) {
			t.Parallel()
			w := b.get("/averages/history?symbol=TALIB&" + query)
			require.Equal(t, 400, w.Code)
			require.Contains(t, w.Body.String(), `"code":"`+code+`"`)
		})
	}
}
