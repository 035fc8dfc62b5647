package problem

import (
	"net/http"

	"marketdata/shared/fault"
)

// Code is a problem that callers can see.
type Code struct {
	Name    string // one of the codes of package fault
	Kind    fault.Kind
	Status  int // on the query surface
	Meaning string
}

// Codes lists every problem that callers can see. Tests compare it with the code and with the README.
var Codes = []Code{
	{fault.CodeInvalidSymbol, fault.Invalid, http.StatusBadRequest, "the request is invalid"},
	{fault.CodeInvalidParameter, fault.Invalid, http.StatusBadRequest, "the request is invalid"},
	{fault.CodeUnknownProvider, fault.Invalid, http.StatusBadRequest, "the request is invalid"},
	{fault.CodeNoHistory, fault.Invalid, http.StatusBadRequest, "the provider has no history, or not of that interval; `detail` says which have"},
	{fault.CodeInvalidProvider, fault.Invalid, http.StatusBadRequest, "the request is invalid"},
	{fault.CodeInvalidSchema, fault.Invalid, http.StatusBadRequest, "the event is invalid"},
	{fault.CodeInvalidPrice, fault.Invalid, http.StatusBadRequest, "the event is invalid"},
	{fault.CodeInvalidTimestamp, fault.Invalid, http.StatusBadRequest, "the event is invalid"},
	{fault.CodeUndecodable, fault.Invalid, http.StatusBadRequest, "the event is invalid"},
	{fault.CodeNoData, fault.Invalid, http.StatusBadRequest, "the event is invalid"},
	{fault.CodeInvalidType, fault.Invalid, http.StatusBadRequest, "the event is invalid"},
	{fault.CodeIncompleteRequest, fault.Invalid, http.StatusBadRequest, "the body is incomplete, or took more than 30 seconds"}, // Unavailable for an event
	{fault.CodeUnauthorized, fault.Invalid, http.StatusUnauthorized, "the operator token is missing or wrong; or, if API keys are configured, the key"},
	{fault.CodeForeignOrigin, fault.Invalid, http.StatusForbidden, "a browser sent a change for another site's page; `CORS_ORIGINS` allows pages to read, nothing more"},
	{fault.CodeReadOnlyToken, fault.Invalid, http.StatusForbidden, "the operator token may only read (`name:sha256:read` in `DLQ_TOKENS`)"},
	{fault.CodeSymbolNotFound, fault.NotFound, http.StatusNotFound, "it does not exist (never a zero price)"},
	{fault.CodeAverageNotFound, fault.NotFound, http.StatusNotFound, "it does not exist (never a zero price)"},
	{fault.CodeJobNotFound, fault.NotFound, http.StatusNotFound, "it does not exist (never a zero price)"},
	{fault.CodeBackfillNotFound, fault.NotFound, http.StatusNotFound, "it does not exist (never a zero price)"},
	{fault.CodeMessageNotFound, fault.NotFound, http.StatusNotFound, "it does not exist (never a zero price)"},
	{fault.CodeReplayNotFound, fault.NotFound, http.StatusNotFound, "it does not exist (never a zero price)"},
	{fault.CodeRouteNotFound, fault.NotFound, http.StatusNotFound, "it does not exist (never a zero price)"},
	{fault.CodeMethodNotAllowed, fault.Invalid, http.StatusMethodNotAllowed, "`Allow` lists the methods"},
	{fault.CodeNotAcceptable, fault.Invalid, http.StatusNotAcceptable, "`Accept` allows neither JSON nor, for histories, CSV"},
	{fault.CodeUnsupportedMediaType, fault.Invalid, http.StatusUnsupportedMediaType, "the body must be `application/json`, and not compressed"},
	{fault.CodeBodyTooLarge, fault.Invalid, http.StatusRequestEntityTooLarge, "the body is too large"},
	{fault.CodeIdempotencyConflict, fault.Conflict, http.StatusConflict, "the resource's state does not allow it"},
	{fault.CodeNotOpen, fault.Conflict, http.StatusConflict, "the resource's state does not allow it"},
	{fault.CodeNotDiscarded, fault.Conflict, http.StatusConflict, "the resource's state does not allow it"},
	{fault.CodeReplayLimit, fault.Conflict, http.StatusConflict, "the resource's state does not allow it"},
	{fault.CodeReplayLost, fault.Conflict, http.StatusConflict, "the resource's state does not allow it"},
	{fault.CodeNotExact, fault.Conflict, http.StatusConflict, "the resource's state does not allow it"},
	{fault.CodeNotRunning, fault.Conflict, http.StatusConflict, "the resource's state does not allow it"},
	{fault.CodeInexact, fault.Invalid, http.StatusBadRequest, "the transform would lose digits of a number, or has no single result; `detail` says where"},
	{fault.CodeTransformFailed, fault.Invalid, http.StatusBadRequest, "the transform would lose digits of a number, or has no single result; `detail` says where"},
	{fault.CodeRateLimited, fault.Limited, http.StatusTooManyRequests, "a request can pass after `Retry-After` seconds"},
	{fault.CodeProviderMalformed, fault.Unavailable, http.StatusBadGateway, "the provider's response is not a quote, or it refuses our key"},
	{fault.CodeProviderAuth, fault.Unavailable, http.StatusBadGateway, "the provider's response is not a quote, or it refuses our key"},
	{fault.CodeProviderRateLimited, fault.Unavailable, http.StatusServiceUnavailable, "retry after `Retry-After` seconds"},
	{fault.CodeProviderUnavailable, fault.Unavailable, http.StatusServiceUnavailable, "retry after `Retry-After` seconds"},
	{fault.CodeStorageUnavailable, fault.Unavailable, http.StatusServiceUnavailable, "retry after `Retry-After` seconds"},
	{fault.CodeLimiterUnavailable, fault.Unavailable, http.StatusServiceUnavailable, "retry after `Retry-After` seconds"},
	{fault.CodeReplayFailed, fault.Unavailable, http.StatusServiceUnavailable, "retry after `Retry-After` seconds"},
	{fault.CodeOverloaded, fault.Unavailable, http.StatusServiceUnavailable, "retry after `Retry-After` seconds"},
	{fault.CodeFunctionUnavailable, fault.Unavailable, http.StatusServiceUnavailable, "retry after `Retry-After` seconds"},
	{fault.CodeProviderTimeout, fault.Unavailable, http.StatusGatewayTimeout, "the provider did not answer in time"},
	{fault.CodeInternal, fault.Internal, http.StatusInternalServerError, "a defect; the log has the cause, by `request_id`"},
}

// EventCodes lists the problems that only the event surface has. Status is that of the event surface.
var EventCodes = []Code{
	{fault.CodeStorageRefused, fault.Invalid, http.StatusUnprocessableEntity, "the same event would fail again"},
	{fault.CodePanic, fault.Invalid, http.StatusUnprocessableEntity, "the same event would fail again"},
	{fault.CodeShuttingDown, fault.Unavailable, http.StatusServiceUnavailable, "deliver it again"},
	{fault.CodeDeadLetterFailed, fault.Unavailable, http.StatusServiceUnavailable, "deliver it again"},
}

// statusByCode has the codes whose status is not that of their kind.
var statusByCode = func() map[string]int {
	special := map[string]int{}
	for _, c := range Codes {
		if c.Status != statusOf(c.Kind) {
			special[c.Name] = c.Status
		}
	}
	return special
}()
