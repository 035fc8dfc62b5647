package terminal

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// client asks the function.
type client struct {
	base  string // URL of the gateway
	token string
	every time.Duration // between two looks at work that goes on; 0: the default of the command
}

// refusal is a request that was refused, or that did not arrive.
type refusal struct {
	status int // 0: there was no answer
	code   string
	text   string
}

func (r *refusal) Error() string {
	if r.code == "" {
		return r.text
	}
	return r.text + " (" + r.code + ")"
}

// isNoEntry says that other requests would end in the same way: there is no answer, or the token does not permit it.
func (r *refusal) isNoEntry() bool {
	return r.status == 0 || r.status == http.StatusUnauthorized || r.status == http.StatusForbidden
}

// timeout is longer than a replay of one letter takes.
const timeout = time.Minute

// plain follows no redirection: the token is for the gateway alone.
var plain = http.Client{Timeout: timeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

// get asks for a route, and decodes the answer into v unless that is nil.
func (c *client) get(ctx context.Context, path string, query url.Values, v any) ([]byte, error) {
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	return c.ask(ctx, http.MethodGet, path, nil, v)
}

// post sends a body, and decodes the answer into v.
func (c *client) post(ctx context.Context, path string, body, v any) ([]byte, error) {
	b, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("encode request: %w", err)
	}
	return c.ask(ctx, http.MethodPost, path, b, v)
}

// ask makes a request, again while the rate limit is used up. Errors are of type [*refusal].
func (c *client) ask(ctx context.Context, method, path string, body []byte, v any) ([]byte, error) {
	for {
		answer, after, err := c.try(ctx, method, path, body, v)
		if after == 0 || !rest(ctx, after) {
			return answer, err
		}
	}
}

// try is one attempt of ask. after is how long the rate limit asks to wait; 0: the request has its answer.
func (c *client) try(ctx context.Context, method, path string, body []byte, v any) (answer []byte, after time.Duration, err error) {
	r, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(c.base, "/")+path, bytes.NewReader(body))
	if err != nil {
		return nil, 0, &refusal{text: "GATEWAY_URL: " + err.Error()}
	}
	r.Header.Set("Authorization", "Bearer "+c.token)
	if method != http.MethodGet {
		r.Header.Set("Content-Type", "application/json")
	}
	response, err := plain.Do(r)
	if err != nil {
		return nil, 0, &refusal{text: err.Error()}
	}
	defer response.Body.Close() //nolint:errcheck // read whole
	if answer, err = io.ReadAll(response.Body); err != nil {
		return nil, 0, &refusal{text: err.Error()}
	}
	if response.StatusCode/100 != 2 {
		if response.StatusCode == http.StatusTooManyRequests {
			seconds, err := strconv.Atoi(response.Header.Get("Retry-After"))
			if err != nil || seconds < 1 {
				seconds = 1
			}
			after = time.Duration(min(seconds, 60)) * time.Second
		}
		return nil, after, problemOf(response.Status, response.StatusCode, answer)
	}
	if v != nil {
		if err := json.Unmarshal(answer, v); err != nil {
			return nil, 0, &refusal{status: response.StatusCode, text: "the answer is not that of dlq-inspector: " + err.Error()}
		}
	}
	return answer, 0, nil
}

// problemOf reads a problem document; other answers are known by their status.
func problemOf(line string, status int, body []byte) error {
	var p struct{ Title, Detail, Code string }
	if json.Unmarshal(body, &p) != nil {
		p.Title, p.Detail, p.Code = "", "", ""
	}
	return &refusal{status: status, code: p.Code, text: cmp.Or(p.Detail, p.Title, "the gateway answered "+line)}
}
