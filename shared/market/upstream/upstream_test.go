package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/shared/fault"
	"marketdata/shared/market"
	"marketdata/shared/secret"
	"marketdata/shared/testenv/collector"
)

const key = "Kq7/x+Z9==secret&1"

func serve(t *testing.T, place KeyPlace, k string, handler http.HandlerFunc) *Client {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	c := New(Config{BaseURL: server.URL, Key: secret.Value(k), Timeout: 20 * time.Second}, place)
	t.Cleanup(c.transport.CloseIdleConnections) // before the server closes, which waits for idle connections
	return c
}

func TestKeyIsSentInItsPlace(t *testing.T) {
	t.Parallel()
	var seen *http.Request
	handler := func(_ http.ResponseWriter, r *http.Request) { seen = r }
	query := url.Values{"symbol": {"A B"}}

	_, err := serve(t, KeyPlace{Header: "Authorization", Prefix: "apikey "}, key, handler).Get(t.Context(), "/q", query)
	require.NoError(t, err)
	require.Equal(t, "apikey "+key, seen.Header.Get("Authorization"))
	require.Equal(t, "/q?symbol=A+B", seen.URL.String())

	_, err = serve(t, KeyPlace{Query: "apikey"}, key, handler).Get(t.Context(), "/q", query)
	require.NoError(t, err)
	require.Equal(t, url.Values{"symbol": {"A B"}, "apikey": {key}}, seen.URL.Query())

	_, err = serve(t, KeyPlace{}, key, handler).Get(t.Context(), "/q", nil)
	require.NoError(t, err)
	require.Equal(t, "/q", seen.URL.String())
	require.NotContains(t, fmt.Sprint(seen.Header), key, "a provider without keys gets none")

	seen = nil
	_, err = serve(t, KeyPlace{Query: "apikey"}, "", handler).Get(t.Context(), "/q", query)
	require.Equal(t, "provider_auth", fault.CodeOf(err))
	require.Nil(t, seen, "without a key there is no call")
}

func TestEchoesOfTheKeyAreMasked(t *testing.T) {
	t.Parallel()
	quoted, err := json.Marshal(key)
	require.NoError(t, err)
	long := map[string]string{
		"as it is":         key,
		"another case":     strings.ToUpper(key),
		"in a query":       url.QueryEscape(key),
		"lower-case query": strings.ToLower(url.QueryEscape(key)),
		"in a path":        url.PathEscape(key),
		"as JSON":          strings.Trim(string(quoted), `"`),
		"as PHP's JSON":    strings.ReplaceAll(key, "/", `\/`),
		"inside a word":    "x" + key + "y",
	}
	for name, echo := range long {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := string(newMask(key)([]byte("{" + echo + "}")))
			require.NotContains(t, strings.ToLower(text), "secret")
			require.Contains(t, text, "REDACTED")
		})
	}
	body := []byte(`{"price":150.25,"x":"demo","y":"demonstration"}`)
	require.Equal(t, string(body), string(newMask("")(body)))
	require.Equal(t, string(body), string(newMask("longerthanthat")(body)))
	require.JSONEq(t, `{"price":150.25,"x":"REDACTED","y":"demonstration"}`, string(newMask("demo")(body)))
	require.Equal(t, string(body), string(newMask("0.2")(body)), "the digits of a price are not an echo")
}

// No response, error or printed client contains the key.
func TestKeyIsNeverShown(t *testing.T) {
	t.Parallel()
	handler := func(w http.ResponseWriter, r *http.Request) {
		echo := r.URL.String() + " " + r.Header.Get("X-Token") + " " + key
		if r.URL.Path == "/garbage" {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				_, _ = fmt.Fprintf(conn, "%s\r\n\r\n", echo) // net/http quotes what it cannot parse
				_ = conn.Close()
			}
			return
		}
		w.Header().Set("Location", "http://"+echo)
		w.WriteHeader(http.StatusFound)
		_, _ = w.Write([]byte(echo))
	}
	for _, place := range []KeyPlace{{Query: "apikey"}, {Header: "X-Token"}} {
		c := serve(t, place, key, handler)
		for _, text := range []string{fmt.Sprintf("%v %+v %#v", c, c, c), fmt.Sprintf("%v %+v %#v", *c, *c, *c)} {
			require.NotContains(t, text, "secret")
		}
		_, err := c.Get(t.Context(), "/garbage", nil)
		require.Equal(t, "provider_unavailable", fault.CodeOf(err))
		require.Contains(t, err.Error(), "REDACTED")
		require.NotContains(t, err.Error(), "secret")

		a, err := c.Get(t.Context(), "/moved", nil)
		require.NoError(t, err)
		require.NotContains(t, string(a.Body), "secret")
		require.Equal(t, "provider_malformed", fault.CodeOf(a.StatusError()), "redirects are not followed")
	}
}

func TestBodiesAreBounded(t *testing.T) {
	t.Parallel()
	size := 1 << 20
	c := serve(t, KeyPlace{}, "", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, size)) })
	a, err := c.Get(t.Context(), "/", nil)
	require.NoError(t, err)
	require.Len(t, a.Body, size)
	size++
	a, err = c.Get(t.Context(), "/", nil)
	require.Equal(t, "provider_malformed", fault.CodeOf(err))
	require.Empty(t, a.Body)
}

// A response is not read beyond its limit, however much a provider sends.
func TestReadingIsBounded(t *testing.T) {
	t.Parallel()
	const whole = 64 << 20
	sent := make(chan int, 1)
	c := serve(t, KeyPlace{}, "", func(w http.ResponseWriter, _ *http.Request) {
		n := 0
		for chunk := make([]byte, 1<<20); n < whole; n += len(chunk) {
			if _, err := w.Write(chunk); err != nil {
				break
			}
		}
		sent <- n
	})
	_, err := c.GetHistory(t.Context(), "/", nil)
	require.Equal(t, "provider_malformed", fault.CodeOf(err))
	require.Less(t, <-sent, whole/2, "bytes: the limit, and what sockets buffer")

	c = serve(t, KeyPlace{}, "", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Long", strings.Repeat("x", maxHeader))
	})
	_, err = c.Get(t.Context(), "/", nil)
	require.Equal(t, "provider_unavailable", fault.CodeOf(err))
}

func TestTimeIsBounded(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/head", "/body"} {
		c := serve(t, KeyPlace{}, "", func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/body" {
				_, _ = w.Write([]byte("{"))
				_ = http.NewResponseController(w).Flush()
			}
			<-r.Context().Done()
		})
		c.timeout = 100 * time.Millisecond
		_, err := c.Get(t.Context(), path, nil)
		require.Equal(t, "provider_timeout", fault.CodeOf(err), path)

		c.timeout = time.Hour
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(10*time.Millisecond, cancel)
		_, err = c.Get(ctx, path, nil)
		require.ErrorIs(t, err, context.Canceled, path)
	}
}

func TestTruncatedBodyIsUnavailable(t *testing.T) {
	t.Parallel()
	c := serve(t, KeyPlace{}, "", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = w.Write([]byte("{}"))
	})
	_, err := c.Get(t.Context(), "/", nil)
	require.Equal(t, "provider_unavailable", fault.CodeOf(err))
}

func TestStatuses(t *testing.T) {
	t.Parallel()
	cases := map[int]struct {
		code string
		wait time.Duration
	}{
		200: {}, 418: {}, // passed below as the adapter's own
		429: {"provider_rate_limited", time.Minute},
		401: {"provider_auth", 0}, 403: {"provider_auth", 0},
		500: {"provider_unavailable", 2 * time.Second}, 503: {"provider_unavailable", 2 * time.Second}, 999: {"provider_unavailable", 2 * time.Second},
		204: {"provider_malformed", 0}, 302: {"provider_malformed", 0}, 404: {"provider_malformed", 0},
	}
	for status, want := range cases {
		t.Run(strconv.Itoa(status), func(t *testing.T) {
			t.Parallel()
			err := Answer{Response: market.Response{Status: status}}.StatusError(http.StatusTeapot)
			if want.code == "" {
				require.NoError(t, err)
				return
			}
			f, ok := fault.As(fmt.Errorf("wrapped: %w", err))
			require.True(t, ok)
			require.Equal(t, want.code, f.Code)
			require.Equal(t, fault.Unavailable, f.Kind)
			require.Equal(t, want.wait, f.RetryAfter)
		})
	}
}

func TestWaits(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 9, 30, 23, 0, 30, 5, time.UTC)
	for value, want := range map[string]time.Duration{
		"": 0, "12": 12 * time.Second, "-1": 0, "soon": 0, "1.5": 0, "259200": 72 * time.Hour, "259201": 0, "99999999999999999999": 0,
		"Wed, 30 Sep 2026 23:01:00 GMT": 30*time.Second - 5, "Wed, 30 Sep 2026 22:00:00 GMT": 0, "Fri, 30 Sep 2033 22:00:00 GMT": 0,
	} {
		t.Run(value, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, want, retryAfter(value, now))
		})
	}
	wait := func(err error) time.Duration {
		f, ok := fault.As(err)
		require.True(t, ok)
		return f.RetryAfter
	}
	a := Answer{Response: market.Response{ReceivedAt: now}}
	require.Equal(t, 59*time.Minute+30*time.Second-5, wait(a.LimitedToday()))
	require.Equal(t, time.Second, wait(a.Limited(time.Second)))
	a.RetryAfter = 12 * time.Second
	require.Equal(t, 12*time.Second, wait(a.LimitedToday()), "the provider's own Retry-After has priority")
	a = Answer{Response: market.Response{ReceivedAt: time.Date(2026, 9, 30, 0, 0, 0, 0, time.UTC)}}
	require.Equal(t, 24*time.Hour, wait(a.LimitedToday()))
}

func TestDecode(t *testing.T) {
	t.Parallel()
	for _, body := range []string{"", "<!doctype html>", " \n<html>", "{", "{}{}", "Too Many Requests", "[]", `{"a":"x"}`, "\xff"} {
		t.Run(body, func(t *testing.T) {
			t.Parallel()
			var v struct{ A int }
			err := Answer{Response: market.Response{Body: []byte(body)}}.Decode(&v)
			require.Equal(t, "provider_malformed", fault.CodeOf(err))
			require.Equal(t, fault.Unavailable, fault.KindOf(errors.Join(err)))
		})
	}
	var v struct{ A int }
	require.NoError(t, Answer{Response: market.Response{Body: []byte(`{"a":1,"b":{}}`)}}.Decode(&v))
	require.Equal(t, 1, v.A)
}

// The span of a call has host and path: the query may hold the key, and a provider must not learn of our traces.
func TestSpansHoldNoKey(t *testing.T) {
	t.Parallel()
	ctx, spans := collector.Record(t.Context())
	status, told := http.StatusOK, ""
	c := serve(t, KeyPlace{Query: "apikey"}, key, func(w http.ResponseWriter, r *http.Request) {
		told += r.Header.Get("Traceparent")
		w.WriteHeader(status)
	})
	_, err := c.Get(ctx, "/query/price", url.Values{"symbol": {"AAPL"}})
	require.NoError(t, err)
	status = http.StatusServiceUnavailable
	_, err = c.Get(ctx, "/query/price", nil)
	require.NoError(t, err)
	require.Empty(t, told)
	c.baseURL = "http://127.0.0.1:1"
	_, err = c.Get(ctx, "/query/price", nil)
	require.Error(t, err)
	var outcomes []string
	for _, span := range spans() {
		require.Equal(t, "GET", span.Name)
		require.NotContains(t, fmt.Sprint(span), "secret")
		require.NotContains(t, fmt.Sprint(span), "apikey")
		require.Contains(t, fmt.Sprint(span.Attributes), "/query/price")
		outcomes = append(outcomes, span.Status.Description)
	}
	require.Equal(t, []string{"", "503", "provider_unavailable", "provider_unavailable"}, outcomes, "each attempt has one")
}
