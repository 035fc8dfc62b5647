// Package upstream is the HTTP client of the provider adapters: bounded in body and time, silent about keys, and never
// sending a request twice.
//
// An adapter makes one [Client] for its provider, asks with [Client.Get], and turns the [Answer] into a quote or an error.
package upstream

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"marketdata/shared/fault"
	"marketdata/shared/market"
	"marketdata/shared/secret"
)

const (
	maxBody   = 1 << 20  // bytes; the largest real answer is some tens of kilobytes
	maxHeader = 64 << 10 // bytes
)

// Config says where a provider is and how it is asked.
type Config struct {
	BaseURL string        // with or without a trailing slash
	Key     secret.Value  // empty: there is none
	Timeout time.Duration // of one call, whole
}

// KeyPlace is where a provider takes its key. The zero KeyPlace: it needs none.
type KeyPlace struct {
	Header string // name of a header, whose value is Prefix and the key
	Prefix string
	Query  string // name of a query parameter, for a provider that takes no header: proxies on the way see it
}

// Client calls one provider. Safe for concurrent use. It keeps the key in closures: fmt prints unexported fields without
// asking their methods.
type Client struct {
	baseURL   string
	timeout   time.Duration
	transport *http.Transport
	authorize func(*http.Request) error
	mask      func([]byte) []byte
	now       func() time.Time
}

// New makes a client whose every call ends within the timeout.
func New(c Config, place KeyPlace) *Client {
	return &Client{
		baseURL: strings.TrimRight(c.BaseURL, "/"), timeout: c.Timeout, transport: newTransport(nil),
		authorize: authorizer(string(c.Key), place), mask: newMask(string(c.Key)), now: time.Now,
	}
}

// authorizer puts the key into a request; it fails where a key is needed and there is none.
func authorizer(key string, place KeyPlace) func(*http.Request) error {
	return func(r *http.Request) error {
		switch {
		case place == KeyPlace{}:
		case key == "":
			return fault.New(fault.Unavailable, "provider_auth", "no key for this provider is configured")
		case place.Header != "":
			r.Header.Set(place.Header, place.Prefix+key)
		default:
			q := r.URL.Query()
			q.Set(place.Query, key)
			r.URL.RawQuery = q.Encode()
		}
		return nil
	}
}

// Get asks for path, already escaped and beginning with a slash, under the base URL. Redirects are not followed: a
// provider that redirects has moved, and a key must not travel to where an answer points. A request is tried again, once,
// only if no byte of it was sent. No error shows the URL or the key. Errors are Unavailable: provider_auth without a
// call if the provider needs a key and there is none, provider_timeout, provider_unavailable, and provider_malformed for
// an answer over 1 MiB.
func (c *Client) Get(ctx context.Context, path string, query url.Values) (Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	target := c.baseURL + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	resp, err := c.send(ctx, target)
	if err != nil {
		return Answer{}, err
	}
	defer resp.Body.Close() //nolint:errcheck // read to the end or given up
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	switch refused := resp.StatusCode != http.StatusOK; {
	case err != nil && (!refused || errors.Is(ctx.Err(), context.Canceled)):
		return Answer{}, c.transportError(err)
	case len(body) > maxBody && !refused:
		return Answer{}, Malformed(nil, "the answer is larger than 1 MiB")
	}
	body = body[:min(len(body), maxBody)] // a refusal's status counts even if its body breaks off
	now := c.now().UTC()
	return Answer{
		Response:   market.Response{Status: resp.StatusCode, Body: c.mask(body), ReceivedAt: now},
		RetryAfter: retryAfter(resp.Header.Get("Retry-After"), now),
	}, nil
}

// PathSegment escapes a symbol for one segment of a path. NotFound, for providers whose symbols never contain a slash: a
// server or a proxy on the way may decode the slash before it routes, and answer for another path.
func PathSegment(symbol market.Symbol) (string, error) {
	if strings.Contains(string(symbol), "/") {
		return "", NotFound(symbol)
	}
	return pathEscapes.Replace(url.PathEscape(string(symbol))), nil
}

// pathEscapes escapes what a path may contain as it is, but servers have read as a query's.
var pathEscapes = strings.NewReplacer("&", "%26", "+", "%2B")

// send makes the request and gives the response's head.
func (c *Client) send(ctx context.Context, target string) (*http.Response, error) {
	for last := false; ; last = true {
		req, wire, err := newRequest(ctx, target)
		if err != nil {
			return nil, fault.New(fault.Internal, "internal", "the provider's address is not usable")
		}
		if err := c.authorize(req); err != nil {
			return nil, err
		}
		resp, err := c.transport.RoundTrip(req) // not http.Client, which follows redirects
		if err == nil {
			return resp, nil
		}
		if last || !wire.unsent(err) || !c.pause(ctx, wire) {
			return nil, c.transportError(err)
		}
	}
}

// transportError classifies an error of net/http or of the connection.
func (c *Client) transportError(err error) error {
	var timeout net.Error
	slow := errors.Is(err, context.DeadlineExceeded) || (errors.As(err, &timeout) && timeout.Timeout())
	// net/http quotes what it could not parse, and a server may have echoed the key in it.
	if masked := c.mask([]byte(err.Error())); string(masked) != err.Error() {
		err = errors.New(string(masked))
	}
	if slow {
		return fault.Wrap(err, fault.Unavailable, "provider_timeout", "the provider did not answer in time")
	}
	return fault.Wrap(err, fault.Unavailable, "provider_unavailable", "the provider cannot be reached").After(briefly)
}
