// Package upstream is the HTTP client of the provider adapters. It bounds body size and time, hides keys, and never sends a request
// twice.
//
// An adapter creates one [Client] for its provider, calls [Client.Get], and converts the [Answer] into a quote or an error.
package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"marketdata/shared/fault"
	"marketdata/shared/market"
	"marketdata/shared/secret"
	"marketdata/shared/trace"
)

const (
	maxBody    = 1 << 20  // bytes; the largest real response with a quote has some tens of kilobytes
	maxHistory = 4 << 20  // bytes; 25 years of days are a megabyte and a half
	maxHeader  = 64 << 10 // bytes
)

// Config is the address, key and timeout of a provider.
type Config struct {
	BaseURL string           // with or without a trailing slash
	Key     secret.Value     // empty: no key
	Timeout time.Duration    // of one whole call
	Now     func() time.Time // our clock; nil: time.Now
	// Dial opens connections for http URLs; nil: over TCP.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// KeyPlace is the part of the request that carries the key. The zero KeyPlace means that the provider needs no key.
type KeyPlace struct {
	Header string // name of a header; its value is Prefix and the key
	Prefix string
	Query  string // name of a query parameter, for a provider that accepts no header: proxies may log it
}

// Client calls one provider. Safe for concurrent use. It keeps the key in closures, because fmt prints unexported fields without
// calling their methods.
type Client struct {
	baseURL   string
	timeout   time.Duration
	transport *http.Transport
	authorize func(*http.Request) error
	mask      func([]byte) []byte
	now       func() time.Time
}

// New returns a client. Each of its calls ends within the timeout.
func New(c Config, place KeyPlace) *Client {
	if c.Now == nil {
		c.Now = time.Now
	}
	transport := newTransport(nil)
	if c.Dial != nil {
		transport.DialContext = counting(c.Dial)
	}
	return &Client{
		baseURL: strings.TrimRight(c.BaseURL, "/"), timeout: c.Timeout, transport: transport,
		authorize: authorizer(string(c.Key), place), mask: newMask(string(c.Key)), now: c.Now,
	}
}

// authorizer returns a function that adds the key to a request. It fails if the provider needs a key and there is none.
func authorizer(key string, place KeyPlace) func(*http.Request) error {
	return func(r *http.Request) error {
		switch {
		case place == KeyPlace{}:
		case key == "":
			return fault.New(fault.Unavailable, fault.CodeProviderAuth, "no key for this provider is configured")
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

// Get requests path, which is escaped and begins with a slash, under the base URL. It does not follow redirects, because the key
// must not be sent to an address in a response. It retries once, and only if no byte of the request was sent. Errors do not
// contain the URL or the key. They are Unavailable: provider_auth, without a call, if the provider needs a key and there is none;
// provider_timeout; provider_unavailable; and provider_malformed for a response over 1 MiB.
func (c *Client) Get(ctx context.Context, path string, query url.Values) (Answer, error) {
	return c.get(ctx, path, query, maxBody)
}

// GetHistory is Get for a response of up to 4 MiB.
func (c *Client) GetHistory(ctx context.Context, path string, query url.Values) (Answer, error) {
	return c.get(ctx, path, query, maxHistory)
}

// Now returns the time of our clock, in UTC.
func (c *Client) Now() time.Time { return c.now().UTC() }

func (c *Client) get(ctx context.Context, path string, query url.Values, most int) (Answer, error) {
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
	defer resp.Body.Close() //nolint:errcheck // read to the end, or not needed
	body, err := io.ReadAll(io.LimitReader(resp.Body, int64(most)+1))
	switch refused := resp.StatusCode != http.StatusOK; {
	case err != nil && (!refused || errors.Is(ctx.Err(), context.Canceled)):
		return Answer{}, c.transportError(err)
	case len(body) > most && !refused:
		return Answer{}, Malformed(nil, fmt.Sprintf("the response is larger than %d MiB", most>>20))
	}
	body = body[:min(len(body), most)] // the status of a refusal counts even if its body is cut
	now := c.Now()
	return Answer{
		Response:   market.Response{Status: resp.StatusCode, Body: c.mask(body), ReceivedAt: now},
		RetryAfter: retryAfter(resp.Header.Get("Retry-After"), now),
	}, nil
}

// PathSegment escapes a symbol for one segment of a path. It is for providers whose symbols contain no slash, and returns
// NotFound if there is one: a server or a proxy may decode an escaped slash before it routes the request, and so respond for
// another path.
func PathSegment(symbol market.Symbol) (string, error) {
	if strings.Contains(string(symbol), "/") {
		return "", NotFound(symbol)
	}
	return pathEscapes.Replace(url.PathEscape(string(symbol))), nil
}

// pathEscapes escapes characters that are valid in a path, but that some servers decode as in a query.
var pathEscapes = strings.NewReplacer("&", "%26", "+", "%2B")

// send sends the request and returns the response with an unread body.
func (c *Client) send(ctx context.Context, target string) (*http.Response, error) {
	for last := false; ; last = true {
		req, wire, err := newRequest(ctx, target)
		if err != nil {
			return nil, fault.New(fault.Internal, fault.CodeInternal, "the provider's URL is not valid")
		}
		if err := c.authorize(req); err != nil {
			return nil, err
		}
		resp, err := c.call(req)
		if err == nil {
			return resp, nil
		}
		if last || !wire.unsent(err) || !c.pause(ctx, wire) {
			return nil, c.transportError(err)
		}
	}
}

// call makes one attempt. Its span has host and path alone: the query may hold the key. No traceparent is sent: traces are no business of
// a provider's.
func (c *Client) call(req *http.Request) (*http.Response, error) {
	_, span := trace.Start(req.Context(), trace.Client, req.Method, "")
	span.Text("http.request.method", req.Method)
	span.Text("server.address", req.URL.Hostname())
	span.Text("url.path", req.URL.Path)
	resp, err := c.transport.RoundTrip(req) // not http.Client, which follows redirects
	if err != nil {
		span.End(c.transportError(err))
		return nil, err
	}
	span.Int("http.response.status_code", resp.StatusCode)
	if resp.StatusCode >= http.StatusBadRequest {
		span.Fail(strconv.Itoa(resp.StatusCode))
	}
	span.End(nil)
	return resp, nil
}

// transportError classifies an error of net/http or of the connection.
func (c *Client) transportError(err error) error {
	var timeout net.Error
	slow := errors.Is(err, context.DeadlineExceeded) || (errors.As(err, &timeout) && timeout.Timeout())
	// net/http quotes a response that it cannot parse, in which the server may have echoed the key.
	if masked := c.mask([]byte(err.Error())); string(masked) != err.Error() {
		err = errors.New(string(masked))
	}
	if slow {
		return fault.Wrap(err, fault.Unavailable, fault.CodeProviderTimeout, "the provider did not answer in time")
	}
	return fault.Wrap(err, fault.Unavailable, fault.CodeProviderUnavailable, "the provider cannot be reached").After(briefly)
}
