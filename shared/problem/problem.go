// Package problem is the body of every error answer: a problem document (RFC 9457). It alone knows which fault is which HTTP status, on
// the query surface and on the event surface.
package problem

import (
	"encoding/json"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"strings"

	"marketdata/shared/fault"
	"marketdata/shared/request"
)

// Problem is a problem document.
type Problem struct {
	Type      string `json:"type" doc:"URI of the problem's kind; about:blank says no more than the status"`
	Title     string `json:"title" doc:"The status in words"`
	Status    int    `json:"status" doc:"The HTTP status"`
	Detail    string `json:"detail,omitempty" doc:"What went wrong this time"`
	Code      string `json:"code" doc:"Stable name of the problem, snake_case"`
	RequestID string `json:"request_id,omitempty" doc:"Name of this request in the logs"`

	retryAfter int // seconds; 0 says nothing
	cause      error
}

// Error makes a Problem an error, so that huma's handlers can return it.
func (p *Problem) Error() string {
	if p.cause != nil {
		return p.cause.Error()
	}
	return p.Code + ": " + p.Detail
}

// GetStatus returns the HTTP status.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType returns the media type of problem documents, whatever the client asked for.
func (p *Problem) ContentType(string) string { return "application/problem+json" }

// GetHeaders returns Retry-After if the problem has one.
func (p *Problem) GetHeaders() http.Header {
	h := http.Header{}
	if p.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(p.retryAfter))
	}
	return h
}

// queryStatus returns the status of an error on the query surface.
func queryStatus(err error) int {
	if s, ok := statusByCode[fault.CodeOf(err)]; ok {
		return s
	}
	return statusOf(fault.KindOf(err))
}

func statusOf(kind fault.Kind) int {
	switch kind {
	case fault.Invalid:
		return http.StatusBadRequest
	case fault.NotFound:
		return http.StatusNotFound
	case fault.Conflict:
		return http.StatusConflict
	case fault.Limited:
		return http.StatusTooManyRequests
	case fault.Unavailable:
		return http.StatusServiceUnavailable
	case fault.Internal:
	}
	return http.StatusInternalServerError
}

// EventStatus returns the status of an error on the event surface. Knative retries 404, 408, 409, 429 and every 5xx, and sends
// everything else to the dead letter sink at once (WebClientCloudEventSender.isRetryableStatusCode), so a permanent failure must be
// none of those.
func EventStatus(err error) int {
	switch code := fault.CodeOf(err); code {
	case fault.CodeBodyTooLarge, fault.CodeForeignOrigin:
		return statusByCode[code]
	}
	if fault.Permanent(err) {
		return http.StatusUnprocessableEntity
	}
	return statusOf(fault.KindOf(err))
}

// New returns the document of an error for the query surface. The text of an error that is no fault is not shown.
func New(err error, requestID string) *Problem {
	return of(err, queryStatus(err), requestID)
}

func of(err error, status int, requestID string) *Problem {
	p := &Problem{
		Type: "about:blank", Title: http.StatusText(status), Status: status, Code: fault.CodeOf(err),
		RequestID: requestID, cause: err,
	}
	if f, ok := fault.As(err); ok {
		p.Detail = request.Cut(f.Detail, MaxDetail)
		p.retryAfter = int(math.Ceil(f.RetryAfter.Seconds()))
	}
	if p.retryAfter == 0 && (status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests) {
		p.retryAfter = 1
	}
	return p
}

// MaxDetail bounds a problem's detail, in bytes: it may repeat what the client sent.
const MaxDetail = 1 << 10

// Write answers a request of the query surface with err's problem document.
func Write(w http.ResponseWriter, r *http.Request, err error) {
	request.NoteError(r.Context(), err)
	New(err, request.ID(r.Context())).Write(w)
}

// WriteEvent answers a request of the event surface with err's problem document.
func WriteEvent(w http.ResponseWriter, r *http.Request, err error) {
	request.NoteError(r.Context(), err)
	of(err, EventStatus(err), request.ID(r.Context())).Write(w)
}

// Write answers with p.
func (p *Problem) Write(w http.ResponseWriter) {
	for name, values := range p.GetHeaders() {
		w.Header()[name] = values
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	if err := json.NewEncoder(w).Encode(p); err != nil {
		slog.Default().Debug("client went away", "err", err)
	}
}

// OfStatus returns the document of a problem that arises before any handler runs, such as a wrong method. cause is logged.
func OfStatus(status int, detail, requestID string, cause error) *Problem {
	return &Problem{
		Type: "about:blank", Title: http.StatusText(status), Status: status, Code: codeOfStatus(status), Detail: request.Cut(detail, MaxDetail),
		RequestID: requestID, cause: cause,
	}
}

// codeOfStatus returns the code of a problem that arises before any handler runs.
func codeOfStatus(status int) string {
	switch status {
	case http.StatusUnprocessableEntity, http.StatusBadRequest:
		return fault.CodeInvalidParameter
	case http.StatusNotFound:
		return fault.CodeRouteNotFound
	case http.StatusRequestEntityTooLarge:
		return fault.CodeBodyTooLarge
	case http.StatusInternalServerError:
		return fault.CodeInternal
	}
	return strings.ReplaceAll(strings.ToLower(http.StatusText(status)), " ", "_")
}
