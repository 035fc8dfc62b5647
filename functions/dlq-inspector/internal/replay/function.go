package replay

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"marketdata/functions/dlq-inspector/internal/letter"
	"marketdata/shared/trace"
)

// NewClient returns a client for requests to the function. It keeps enough connections for a bulk replay.
func NewClient() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			MaxIdleConns: MaxInFlight, MaxIdleConnsPerHost: MaxInFlight, IdleConnTimeout: time.Minute, DisableCompression: true,
		},
		// A redirect is not a verdict.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Codes of a refusal whose answer has none.
const (
	codeHTTP422 = "http_422"
	codeHTTP413 = "http_413"
)

// deliver posts the event once and returns the verdict. It continues the letter's trace, so that an event has one trace from its price to
// its average, whatever happened to it in between; each replay links to the request that asked for it. The other way round, a bulk replay
// would be one trace of thousands of events.
func (r *Replayer) deliver(ctx context.Context, l letter.Stored, token uuid.UUID, by *edit) (v letter.Verdict) {
	origin := letter.Text(letter.KafkaHeaders(l.Headers), "traceparent")
	ctx, span := trace.Continue(ctx, origin, trace.Internal, "replay", "")
	defer func() {
		if v.Outcome != letter.OutcomeResolved {
			span.Fail(v.Code)
		}
		span.End(nil)
	}()
	span.Text("marketdata.letter_id", l.ID.String())
	header, value := outgoing(l, token, by)
	if trace.Usable(origin) {
		header.Set("Traceparent", origin)
	}
	status, body, err := r.post(ctx, "/", header, value)
	if err != nil {
		return unreachable()
	}
	switch status {
	case http.StatusNoContent:
		return letter.Verdict{Outcome: letter.OutcomeResolved}
	case http.StatusUnprocessableEntity:
		return refusal(body, codeHTTP422)
	case http.StatusRequestEntityTooLarge:
		return refusal(body, codeHTTP413)
	}
	return unexpected(status)
}

// rehearse asks the function what it would do with a letter. Nothing changes.
func (r *Replayer) rehearse(ctx context.Context, l letter.Stored, by *edit) letter.Verdict {
	ctx, cancel := context.WithTimeout(ctx, VerdictTimeout)
	defer cancel()
	if by != nil {
		l.Correction++ // as when the replay begins
	}
	header, value := outgoing(l, uuid.New(), by)
	status, body, err := r.post(ctx, "/dry-run", header, value)
	if err != nil {
		return unreachable()
	}
	switch status {
	case http.StatusUnprocessableEntity:
		return refusal(body, codeHTTP422)
	case http.StatusRequestEntityTooLarge:
		return refusal(body, codeHTTP413)
	}
	var v struct{ Verdict, Code, Reason string }
	if status != http.StatusOK || json.Unmarshal(body, &v) != nil {
		return unexpected(status)
	}
	switch v.Verdict {
	case "applied", "duplicate":
		return letter.Verdict{Outcome: letter.OutcomeResolved}
	case "dead_letter":
		return refused(v.Code, v.Reason)
	}
	return noVerdict(CodeTargetUnavailable, "the function cannot tell now: "+letter.Truncate(letter.Clean(v.Reason), 200))
}

// refusal returns the verdict of a problem document. code is for a body that is none.
func refusal(body []byte, code string) letter.Verdict {
	var problem struct{ Code, Detail string }
	if json.Unmarshal(body, &problem) != nil || problem.Code == "" {
		return refused(code, "the function refuses the event")
	}
	return refused(problem.Code, problem.Detail)
}

func refused(code, reason string) letter.Verdict {
	return letter.Verdict{Outcome: letter.OutcomeRefused, Code: letter.CodeText(code), Reason: letter.ReasonText(reason)}
}

func noVerdict(code, reason string) letter.Verdict {
	return letter.Verdict{Outcome: letter.OutcomeNone, Code: code, Reason: reason}
}

func unreachable() letter.Verdict {
	return noVerdict(CodeTargetUnavailable, "the function does not answer")
}

func unexpected(status int) letter.Verdict {
	return noVerdict(CodeTargetUnavailable, fmt.Sprintf("the function answers with status %d", status))
}

// ready reports whether the function says that it is. If it is, a letter without a verdict is itself the cause.
func (r *Replayer) ready(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(r.Function, "/")+"/readyz", nil)
	if err != nil {
		return false
	}
	resp, err := r.Client.Do(req)
	if err != nil {
		return false
	}
	return resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
}

// post sends the event to a path of the function and returns status and body of the answer. An error means that there is no answer.
func (r *Replayer) post(ctx context.Context, path string, header http.Header, value []byte) (status int, body []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimRight(r.Function, "/")+path, bytes.NewReader(value))
	if err != nil {
		return 0, nil, fmt.Errorf("make request: %w", err)
	}
	ctx, span := trace.Start(ctx, trace.Client, req.Method, "")
	defer func() { span.End(err) }()
	span.Text("http.request.method", req.Method)
	span.Text("server.address", req.URL.Hostname())
	span.Text("url.path", req.URL.Path)
	if traceparent := trace.Header(ctx); traceparent != "" {
		header.Set("Traceparent", traceparent)
	}
	req.Header = header
	resp, err := r.Client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	span.Int("http.response.status_code", resp.StatusCode)
	defer resp.Body.Close()                                   //nolint:errcheck // read below
	body, err = io.ReadAll(io.LimitReader(resp.Body, 64<<10)) // no field that is read lies beyond
	return resp.StatusCode, body, err
}
