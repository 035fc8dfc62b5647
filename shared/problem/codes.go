package problem

import (
	"net/http"

	"marketdata/shared/fault"
)

// Code is a problem that callers can see.
type Code struct {
	Name    string // stable, snake_case
	Kind    fault.Kind
	Status  int // on the query surface
	Meaning string
}

// Codes lists every problem that callers can see. Tests compare it with the code and with the README.
var Codes = []Code{
	{"invalid_symbol", fault.Invalid, http.StatusBadRequest, "the request is invalid"},
	{"invalid_parameter", fault.Invalid, http.StatusBadRequest, "the request is invalid"},
	{"unknown_provider", fault.Invalid, http.StatusBadRequest, "the request is invalid"},
	{"invalid_provider", fault.Invalid, http.StatusBadRequest, "the request is invalid"},
	{"invalid_schema", fault.Invalid, http.StatusBadRequest, "the event is invalid"},
	{"invalid_price", fault.Invalid, http.StatusBadRequest, "the event is invalid"},
	{"invalid_timestamp", fault.Invalid, http.StatusBadRequest, "the event is invalid"},
	{"undecodable", fault.Invalid, http.StatusBadRequest, "the event is invalid"},
	{"no_data", fault.Invalid, http.StatusBadRequest, "the event is invalid"},
	{"invalid_type", fault.Invalid, http.StatusBadRequest, "the event is invalid"},
	{"incomplete_request", fault.Invalid, http.StatusBadRequest, "the body is incomplete, or took more than 30 seconds"}, // Unavailable for an event
	{"unauthorized", fault.Invalid, http.StatusUnauthorized, "the operator token is missing or wrong; or, if API keys are configured, the key"},
	{"foreign_origin", fault.Invalid, http.StatusForbidden, "a browser sent a change for another site's page; `CORS_ORIGINS` allows pages to read, nothing more"},
	{"symbol_not_found", fault.NotFound, http.StatusNotFound, "it does not exist (never a zero price)"},
	{"average_not_found", fault.NotFound, http.StatusNotFound, "it does not exist (never a zero price)"},
	{"job_not_found", fault.NotFound, http.StatusNotFound, "it does not exist (never a zero price)"},
	{"message_not_found", fault.NotFound, http.StatusNotFound, "it does not exist (never a zero price)"},
	{"replay_not_found", fault.NotFound, http.StatusNotFound, "it does not exist (never a zero price)"},
	{"route_not_found", fault.NotFound, http.StatusNotFound, "it does not exist (never a zero price)"},
	{"method_not_allowed", fault.Invalid, http.StatusMethodNotAllowed, "`Allow` lists the methods"},
	{"unsupported_media_type", fault.Invalid, http.StatusUnsupportedMediaType, "the body must be `application/json`, and not compressed"},
	{"body_too_large", fault.Invalid, http.StatusRequestEntityTooLarge, "the body is too large"},
	{"idempotency_conflict", fault.Conflict, http.StatusConflict, "the resource's state does not allow it"},
	{"not_open", fault.Conflict, http.StatusConflict, "the resource's state does not allow it"},
	{"not_discarded", fault.Conflict, http.StatusConflict, "the resource's state does not allow it"},
	{"replay_limit", fault.Conflict, http.StatusConflict, "the resource's state does not allow it"},
	{"replay_lost", fault.Conflict, http.StatusConflict, "the resource's state does not allow it"},
	{"not_exact", fault.Conflict, http.StatusConflict, "the resource's state does not allow it"},
	{"not_running", fault.Conflict, http.StatusConflict, "the resource's state does not allow it"},
	{"rate_limited", fault.Limited, http.StatusTooManyRequests, "a request can pass after `Retry-After` seconds"},
	{"provider_malformed", fault.Unavailable, http.StatusBadGateway, "the provider's response is not a quote, or it refuses our key"},
	{"provider_auth", fault.Unavailable, http.StatusBadGateway, "the provider's response is not a quote, or it refuses our key"},
	{"provider_rate_limited", fault.Unavailable, http.StatusServiceUnavailable, "retry after `Retry-After` seconds"},
	{"provider_unavailable", fault.Unavailable, http.StatusServiceUnavailable, "retry after `Retry-After` seconds"},
	{"storage_unavailable", fault.Unavailable, http.StatusServiceUnavailable, "retry after `Retry-After` seconds"},
	{"limiter_unavailable", fault.Unavailable, http.StatusServiceUnavailable, "retry after `Retry-After` seconds"},
	{"replay_failed", fault.Unavailable, http.StatusServiceUnavailable, "retry after `Retry-After` seconds"},
	{"function_unavailable", fault.Unavailable, http.StatusServiceUnavailable, "retry after `Retry-After` seconds"},
	{"provider_timeout", fault.Unavailable, http.StatusGatewayTimeout, "the provider did not answer in time"},
	{"internal", fault.Internal, http.StatusInternalServerError, "a defect; the log has the cause, by `request_id`"},
}

// EventCodes lists the problems that only the event surface has. Status is that of the event surface.
var EventCodes = []Code{
	{"storage_refused", fault.Invalid, http.StatusUnprocessableEntity, "the same event would fail again"},
	{"panic", fault.Invalid, http.StatusUnprocessableEntity, "the same event would fail again"},
	{"overloaded", fault.Unavailable, http.StatusServiceUnavailable, "deliver it again"},
	{"shutting_down", fault.Unavailable, http.StatusServiceUnavailable, "deliver it again"},
	{"dead_letter_failed", fault.Unavailable, http.StatusServiceUnavailable, "deliver it again"},
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
