package service

import (
	"encoding/json"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"strings"

	"marketdata/shared/fault"
)

// Problem is a problem document (RFC 9457), the body of every error answer.
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

// Error makes a Problem an error, so that handlers of the API library can return it.
func (p *Problem) Error() string {
	if p.cause != nil {
		return p.cause.Error()
	}
	return p.Code + ": " + p.Detail
}

// GetStatus gives the HTTP status.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType is the media type of problem documents whatever the client asked for.
func (p *Problem) ContentType(string) string { return "application/problem+json" }

// GetHeaders gives Retry-After where the problem has one.
func (p *Problem) GetHeaders() http.Header {
	h := http.Header{}
	if p.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(p.retryAfter))
	}
	return h
}

// statusByCode are the codes whose status is not that of their kind.
var statusByCode = map[string]int{
	"unauthorized":            http.StatusUnauthorized,
	"foreign_origin":          http.StatusForbidden,
	"body_too_large":          http.StatusRequestEntityTooLarge,
	"provider_malformed":      http.StatusBadGateway,
	"provider_auth":           http.StatusBadGateway,
	"provider_timeout":        http.StatusGatewayTimeout,
	"unsupported_media_type":  http.StatusUnsupportedMediaType,
	"provider_not_configured": http.StatusBadGateway,
}

// queryStatus is the status of a kind on the query surface.
func queryStatus(err error) int {
	if s, ok := statusByCode[fault.CodeOf(err)]; ok {
		return s
	}
	switch fault.KindOf(err) {
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

// EventStatus is the status of an error on the event surface. Knative retries 404, 408, 409, 429 and every 5xx and sends
// all else to the dead letter sink at once (WebClientCloudEventSender.isRetryableStatusCode): a permanent failure must
// be none of those.
func EventStatus(err error) int {
	switch code := fault.CodeOf(err); code {
	case "body_too_large", "foreign_origin":
		return statusByCode[code]
	}
	switch fault.KindOf(err) {
	case fault.Invalid, fault.NotFound:
		return http.StatusUnprocessableEntity
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

// NewProblem makes the document of an error for the query surface. The text of an error that is no fault is not shown.
func NewProblem(err error, requestID string) *Problem {
	return newProblem(err, queryStatus(err), requestID)
}

func newProblem(err error, status int, requestID string) *Problem {
	p := &Problem{
		Type: "about:blank", Title: http.StatusText(status), Status: status, Code: fault.CodeOf(err),
		RequestID: requestID, cause: err,
	}
	if f, ok := fault.As(err); ok {
		p.Detail = cut(f.Detail, maxDetail)
		p.retryAfter = int(math.Ceil(f.RetryAfter.Seconds()))
	}
	if p.retryAfter == 0 && (status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests) {
		p.retryAfter = 1
	}
	return p
}

// maxDetail bounds a problem's detail, in bytes: it may repeat what the client sent.
const maxDetail = 1 << 10

// WriteProblem answers a request of the query surface with err's problem document. It is the one writer of problem
// documents outside the API library.
func WriteProblem(w http.ResponseWriter, r *http.Request, err error) {
	noteError(r.Context(), err)
	writeProblem(w, NewProblem(err, RequestID(r.Context())))
}

// WriteEventProblem answers a request of the event surface with err's problem document.
func WriteEventProblem(w http.ResponseWriter, r *http.Request, err error) {
	noteError(r.Context(), err)
	writeProblem(w, newProblem(err, EventStatus(err), RequestID(r.Context())))
}

func writeProblem(w http.ResponseWriter, p *Problem) {
	for name, values := range p.GetHeaders() {
		w.Header()[name] = values
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	if err := json.NewEncoder(w).Encode(p); err != nil {
		slog.Default().Debug("client went away", "err", err)
	}
}

// codeOfStatus names problems that arise before any handler runs, such as a wrong method.
func codeOfStatus(status int) string {
	switch status {
	case http.StatusUnprocessableEntity, http.StatusBadRequest:
		return "invalid_parameter"
	case http.StatusNotFound:
		return "route_not_found"
	case http.StatusRequestEntityTooLarge:
		return "body_too_large"
	case http.StatusInternalServerError:
		return "internal"
	}
	return strings.ReplaceAll(strings.ToLower(http.StatusText(status)), " ", "_")
}
