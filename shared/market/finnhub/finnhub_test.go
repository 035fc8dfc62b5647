package finnhub_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/local/exchange"
	"marketdata/shared/fault"
	"marketdata/shared/market"
	"marketdata/shared/market/conformance"
	"marketdata/shared/market/finnhub"
	"marketdata/shared/market/upstream"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	a := conformance.Adapter{
		Name:      finnhub.Name,
		New:       func(c upstream.Config) market.Provider { return finnhub.New(c) },
		Exchange:  func(now func() time.Time) http.Handler { return exchange.New(1, now) },
		Symbol:    "AAPL",
		TimeGiven: true,
		Price:     `"c":`, Seconds: `"t":`,
		Recorded: map[string]conformance.Want{
			"ok.http":                 {Price: "153.04", ObservedAt: time.Unix(1658347204, 0).UTC()},
			"unknown_symbol.http":     {Code: "symbol_not_found"},
			"no_key.http":             {Code: "provider_auth"},
			"bad_key.http":            {Code: "provider_auth"},
			"not_entitled.http":       {Code: "provider_auth"},
			"limit_minute.http":       {Code: "provider_rate_limited", Wait: time.Minute},
			"limit_minute_short.http": {Code: "provider_rate_limited", Wait: time.Minute},
			"before_the_open.http":    {Code: "provider_malformed"},
			"empty.http":              {Code: "provider_malformed"},
			"html.http":               {Code: "provider_malformed"},
			"unavailable.http":        {Code: "provider_unavailable"},
		},
	}
	a.Key.Header = "X-Finnhub-Token"
	conformance.Run(t, a)
}

// The message decides, whatever its status and form.
func TestRefusalsAreClassifiedByMessage(t *testing.T) {
	t.Parallel()
	type answer struct {
		status int
		body   string
	}
	var current answer
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(current.status)
		_, _ = w.Write([]byte(current.body))
	}))
	t.Cleanup(server.Close)
	p := finnhub.New(upstream.Config{BaseURL: server.URL, Key: "k", Timeout: time.Minute})
	for text, code := range map[string]string{
		"Symbol not supported.":                     "symbol_not_found",
		"Invalid symbol":                            "symbol_not_found",
		"You don't have access to this resource.":   "provider_auth",
		"You don’t have access to this resource":    "provider_auth",
		"Invalid API key.":                          "provider_auth",
		"API limit reached. Please try again later": "provider_rate_limited",
		"Something new":                             "provider_malformed",
	} {
		for _, status := range []int{200, 400, 404, 422} {
			for _, body := range []string{`{"error":"` + text + `"}`, `"` + text + `"`, text, `{"s":"no_data","error":"` + text + `"}`} {
				current = answer{status, body}
				_, _, err := p.Latest(t.Context(), "RY.TO")
				require.Equal(t, code, fault.CodeOf(err), "%d %s", status, body)
			}
		}
	}
	for status, code := range map[int]string{401: "provider_auth", 402: "provider_auth", 403: "provider_auth", 429: "provider_rate_limited", 500: "provider_unavailable"} {
		current = answer{status, `{"error":"Something new"}`}
		_, _, err := p.Latest(t.Context(), "RY.TO")
		require.Equal(t, code, fault.CodeOf(err), status)
	}
}
