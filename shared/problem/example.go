package problem

import (
	"slices"

	"marketdata/shared/fault"
)

// ExampleRequestID is the request ID of examples.
const ExampleRequestID = "0190f5d8-7a1c-4c2e-9d53-5a0d1f5f7c11"

// Example returns one of [Codes] and an example of its document for the query surface. detail replaces the usual one unless it is empty.
func Example(code, detail string) (Code, *Problem) {
	c := Codes[slices.IndexFunc(Codes, func(c Code) bool { return c.Name == code })]
	if detail == "" {
		detail = details[code]
	}
	p := OfStatus(c.Status, detail, ExampleRequestID, nil)
	p.Code = code
	return c, p
}

// details has a detail that each code can have.
var details = map[string]string{
	fault.CodeInvalidSymbol: "symbol must be 1 to 32 of A-Z 0-9 . - ^ = / : _ & +, with a letter or digit and no . or .. between slashes",

	fault.CodeInvalidParameter:     `unknown query parameter "window_size"`,
	fault.CodeUnknownProvider:      "unknown provider",
	fault.CodeNoHistory:            "finnhub has no history; these have: yfinance (1m 5m 15m 1h 1d), binance (1m 5m 15m 1h 1d)",
	fault.CodeInvalidProvider:      "provider must be 1 to 32 of a-z 0-9 _ -",
	fault.CodeInvalidSchema:        `the member "price" is missing`,
	fault.CodeInvalidPrice:         "price must be greater than 0",
	fault.CodeInvalidTimestamp:     "timestamp is more than 24 hours ahead",
	fault.CodeUndecodable:          "data is not JSON",
	fault.CodeNoData:               "event has no data",
	fault.CodeInvalidType:          "event type is not marketdata.price.observed.v1",
	fault.CodeIncompleteRequest:    "the request body is incomplete",
	fault.CodeUnauthorized:         "send a known API key as the header X-API-Key",
	fault.CodeForeignOrigin:        "the request comes from another site's page: it may read, but change nothing",
	fault.CodeReadOnlyToken:        "the token of alice may only read",
	fault.CodeSymbolNotFound:       "the provider does not have the symbol AAPPL",
	fault.CodeAverageNotFound:      "no price of AAPL from yfinance has been seen yet",
	fault.CodeJobNotFound:          "there is no such job",
	fault.CodeBackfillNotFound:     "there is no such backfill",
	fault.CodeMessageNotFound:      "there is no such dead letter",
	fault.CodeReplayNotFound:       "there is no such replay",
	fault.CodeRouteNotFound:        "there is no route for this path",
	fault.CodeMethodNotAllowed:     "this path does not support PATCH",
	fault.CodeNotAcceptable:        "the answer can be application/json or text/csv",
	fault.CodeUnsupportedMediaType: "the body must be application/json",
	fault.CodeBodyTooLarge:         "the body is larger than 1048576 bytes",
	fault.CodeIdempotencyConflict:  "this Idempotency-Key was used with another request",
	fault.CodeNotOpen:              "the letter is resolved, not open",
	fault.CodeNotDiscarded:         "the letter is open, not discarded",
	fault.CodeReplayLimit:          "the letter was replayed 5 times; force replays it once more",
	fault.CodeReplayLost:           "the replay took too long; the letter is open again",
	fault.CodeNotExact:             "only an exact copy of a record can be sent, and only to one of our topics",
	fault.CodeNotRunning:           "the replay is completed",
	fault.CodeInexact:              "`.price / 3` is not exact: its result has no end",
	fault.CodeTransformFailed:      "the letter has no value",
	fault.CodeRateLimited:          "the limit of 5 requests in 1m is used up",
	fault.CodeProviderMalformed:    "the provider's quote is not usable",
	fault.CodeProviderAuth:         "the provider refuses our key, or its plan does not include the symbol",
	fault.CodeProviderRateLimited:  "the provider's rate limit is exceeded",
	fault.CodeProviderUnavailable:  "the provider cannot be reached",
	fault.CodeStorageUnavailable:   "the database does not answer",
	fault.CodeLimiterUnavailable:   "the limit cannot be checked at the moment",
	fault.CodeReplayFailed:         "there is no verdict (the function did not answer in time); the letter is open again",
	fault.CodeOverloaded:           "too many requests are in flight",
	fault.CodeFunctionUnavailable:  "no replica of the function get-latest is ready",
	fault.CodeProviderTimeout:      "the provider did not answer in time",
	fault.CodeInternal:             "",
}
