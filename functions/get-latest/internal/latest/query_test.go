package latest

import (
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"marketdata/shared/api"
	"marketdata/shared/service"
)

// The hand-written parser refuses all requests that the OpenAPI document refuses. Others are refused only by rules that the document
// cannot express.
func TestRequestsAreParsedAsDocumented(t *testing.T) {
	t.Parallel()
	b := setup(t)
	documented := service.New(service.Config{}, slog.New(slog.DiscardHandler))
	api.Handle(api.New(documented, "get-latest", ""), operation, func(context.Context, *documentedQuery) (*struct{}, error) { return &struct{}{}, nil })
	ask := func(h http.Handler, query, held string) *httptest.ResponseRecorder {
		w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/prices/latest", nil)
		r.URL.RawQuery = query
		if held != "" {
			r.Header.Set("If-None-Match", held)
		}
		h.ServeHTTP(w, r)
		return w
	}
	beyond := map[string]string{ // requests that only our parser refuses, with the code
		"": "invalid_parameter", "symbol=AAPL&symbols=MSFT": "invalid_parameter", "symbol=A+B": "invalid_symbol", "symbol=AAPL&provider=nobody": "unknown_provider",
		"symbol=" + strings.Repeat("A", 33): "invalid_symbol", "symbols=AAPL&provider=AUTO": "unknown_provider",
	}
	queries := slices.AppendSeq([]string{
		"symbol=AAPL", "symbol=aapl", "symbol=AAPL&provider=yfinance", "provider=yfinance&symbol=MSFT", "symbol=AAPL&", "&symbol=AAPL", "symbol=A%41PL",
		"symbol=AAPL&symbol=AAPL", "symbol=AAPL&symbol=", "symbol=AAPL&provider=", "symbol=AAPL&provider", "symbol=AAPL&provider=auto",
		"symbol=AAPL&provider=yfinance&provider=yfinance", "symbol=AAPL&x=1", "symbol=AAPL;x=1", "symbol=", "symbol", "=", "symbols=AAPL", "symbols=AAPL,MSFT",
		"symbols=AAPL,,A+B", "symbols=AAPL%2CMSFT", "symbols=A" + strings.Repeat(",A", 49), "symbols=A" + strings.Repeat(",A", 50), "symbols=AAPL&symbols=MSFT",
		"SYMBOL=AAPL", "symbol=AAPL=", "bol=AAPL&symbol=AAPL", "symbol=%zz", "symbol=%ff", "symbol=%00", "symbols=%00", "symbol=AAPL&%00=1",
	}, maps.Keys(beyond))
	for _, query := range queries {
		for _, held := range []string{"", "*", `"other"`, "\xff"} {
			got, want := ask(b.service.Handler(), query, held), ask(documented.Handler(), query, held)
			var problem struct{ Code string }
			if got.Code == http.StatusBadRequest {
				require.NoError(t, json.Unmarshal(got.Body.Bytes(), &problem))
			}
			switch code := beyond[query]; {
			case want.Code == http.StatusBadRequest:
				require.Equal(t, "invalid_parameter", problem.Code, "%q %q", query, held)
			case code != "":
				require.Equal(t, code, problem.Code, "%q %q", query, held)
			default:
				require.Contains(t, []int{http.StatusOK, http.StatusNotModified}, got.Code, "%q %q", query, held)
			}
		}
	}
}
