// Package upstream is the HTTP client of the provider adapters: bounded in body and time, silent about keys.
package upstream

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"marketdata/shared/fault"
	"marketdata/shared/market"
)

// maxBody bounds an answer: the largest real one is some tens of kilobytes.
const maxBody = 1 << 20

// Client calls providers. Safe for concurrent use.
type Client struct {
	http    *http.Client
	timeout time.Duration
	now     func() time.Time
}

// New makes a client whose every call ends within timeout. Redirects are not followed: a provider that redirects has
// moved, and a key must not travel to where an answer points.
func New(timeout time.Duration) *Client {
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, MaxIdleConnsPerHost: 16, IdleConnTimeout: 90 * time.Second, ForceAttemptHTTP2: true,
	}
	return &Client{
		http: &http.Client{
			Transport:     transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		timeout: timeout, now: time.Now,
	}
}

// Get fetches target, which may hold a key: no error shows it. Errors are Unavailable with the codes provider_timeout
// and provider_unavailable, or provider_malformed for a body over 1 MiB.
func (c *Client) Get(ctx context.Context, target string, header http.Header) (market.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return market.Response{}, fault.New(fault.Internal, "internal", "the provider's address is not usable")
	}
	for name, values := range header {
		req.Header[name] = values
	}
	req.Header.Set("User-Agent", "Mozilla/5.0 (compatible; marketdata/1.0)") // Yahoo refuses clients that name none
	req.Header.Set("Accept", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return market.Response{}, transportError(err)
	}
	defer resp.Body.Close() //nolint:errcheck // read to the end or given up
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	out := market.Response{Status: resp.StatusCode, Body: body, ReceivedAt: c.now().UTC()}
	switch {
	case err != nil:
		return out, transportError(err)
	case len(body) > maxBody:
		return market.Response{}, Malformed(nil, "the answer is larger than 1 MiB")
	}
	return out, nil
}

// transportError drops the URL that net/http puts into its errors.
func transportError(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	var timeout net.Error
	if errors.Is(err, context.DeadlineExceeded) || (errors.As(err, &timeout) && timeout.Timeout()) {
		return fault.Wrap(err, fault.Unavailable, "provider_timeout", "the provider did not answer in time")
	}
	return fault.Wrap(err, fault.Unavailable, "provider_unavailable", "the provider cannot be reached").After(2 * time.Second)
}

// StatusError turns a status into an error; 200 and those in pass are the adapter's own business and give nil.
func StatusError(status int, pass ...int) error {
	for _, p := range pass {
		if status == p {
			return nil
		}
	}
	switch {
	case status == http.StatusOK:
		return nil
	case status == http.StatusTooManyRequests || status == http.StatusTeapot: // 418: Binance's ban
		return fault.New(fault.Unavailable, "provider_rate_limited", "the provider's limit is spent").After(time.Minute)
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return fault.New(fault.Unavailable, "provider_auth", "the provider refuses our key")
	case status >= 500:
		return fault.New(fault.Unavailable, "provider_unavailable", "the provider answers with status %d", status).After(2 * time.Second)
	}
	return Malformed(nil, "the provider answers with a status nobody expects")
}

// Malformed is an answer that is no quote and no known refusal.
func Malformed(cause error, detail string) error {
	if cause == nil {
		return fault.New(fault.Unavailable, "provider_malformed", "%s", detail)
	}
	return fault.Wrap(cause, fault.Unavailable, "provider_malformed", "%s", detail)
}

// NotFound is the answer for a symbol that the provider does not have.
func NotFound(symbol market.Symbol) error {
	return fault.New(fault.NotFound, "symbol_not_found", "the provider does not have the symbol %s", symbol)
}
