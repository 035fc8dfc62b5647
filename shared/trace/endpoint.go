package trace

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// endpoint exports spans over OTLP/HTTP. The SDK's queue calls it with one batch at a time.
type endpoint struct {
	url     string
	headers http.Header
	client  *http.Client
}

func newEndpoint(c Config) *endpoint {
	headers, _ := parseHeaders(string(c.Headers)) // errors are those of Validate
	headers.Set("Content-Type", "application/x-protobuf")
	return &endpoint{url: c.url(), headers: headers, client: &http.Client{
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, MaxIdleConns: 1, IdleConnTimeout: time.Minute, ForceAttemptHTTP2: true},
		Timeout:   time.Duration(c.TimeoutMillis) * time.Millisecond,
	}}
}

// ExportSpans sends spans. It repeats a request that the endpoint puts off, as the protocol has it, for as long as the queue lets it.
func (e *endpoint) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	if len(spans) == 0 {
		return nil
	}
	body := encode(spans)
	for wait := time.Second; ; wait *= 2 {
		again, err := e.post(ctx, body)
		if err == nil || !again {
			return err
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return err
		}
	}
}

// post makes one request. again says that it may succeed later.
func (e *endpoint) post(ctx context.Context, body []byte) (again bool, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url, bytes.NewReader(body))
	if err != nil {
		return false, err
	}
	req.Header = e.headers.Clone()
	resp, err := e.client.Do(req)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()                                       //nolint:errcheck // read below
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // so that the connection is used again
	switch {
	case resp.StatusCode < 300:
		return false, nil
	case resp.StatusCode == http.StatusTooManyRequests, resp.StatusCode >= 502 && resp.StatusCode <= 504:
		again = true
	}
	return again, fmt.Errorf("the OTLP endpoint answers with status %s", strconv.Itoa(resp.StatusCode))
}

// Shutdown does nothing: what is in flight ends with its context.
func (e *endpoint) Shutdown(context.Context) error { return nil }
