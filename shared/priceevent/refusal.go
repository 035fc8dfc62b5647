package priceevent

import "marketdata/shared/market"

// Codes of the reasons for dead letters. They are the values of the header dlq-code and of the metrics' label, and dlq-inspector
// groups by them.
const (
	CodeUndecodable      = "undecodable"
	CodeNoData           = "no_data"
	CodeInvalidType      = "invalid_type"
	CodeInvalidSchema    = "invalid_schema"
	CodeInvalidSymbol    = "invalid_symbol"
	CodeInvalidProvider  = "invalid_provider"
	CodeInvalidPrice     = "invalid_price"
	CodeInvalidTimestamp = "invalid_timestamp"
	CodeBodyTooLarge     = "body_too_large"
	CodeStorageRefused   = "storage_refused"
	CodePanic            = "panic"
	CodeStorageAway      = "storage_unavailable"
	CodeOverloaded       = "overloaded"
	CodeDeliveryFailed   = "delivery_failed"
)

// Refusal is the reason for a dead letter, with its remedy.
type Refusal struct {
	Code    string
	Meaning string
	Remedy  string
}

// Refusals has all reasons, in the order in which an event is checked. The last three are of events that could have succeeded, but
// whose retries were used up.
var Refusals = []Refusal{
	{CodeBodyTooLarge, "the event is larger than MAX_EVENT_BYTES", "shorten it, or raise MAX_EVENT_BYTES, and replay"},
	{CodeUndecodable, "not a CloudEvent, or its data is not JSON", "correct the value and replay, or discard"},
	{CodeInvalidType, "the event's type is not that of a price event", "discard, and stop its producer from writing to this topic"},
	{CodeNoData, "the record has no value (a tombstone)", "discard: there is no price in it"},
	{CodeInvalidSchema, "JSON, but not of a price event's form", "correct the value and replay"},
	{CodeInvalidSymbol, "the symbol is not " + market.SymbolForm, "correct the value and replay"},
	{CodeInvalidProvider, "the source is not 1 to 32 of a-z 0-9 _ -", "correct the value and replay"},
	{CodeInvalidPrice, "the price is not a number greater than 0 of at most 20 digits before and 18 after the point", "correct the value and replay"},
	{CodeInvalidTimestamp, "the timestamp is not RFC 3339, before 1970, or more than 24 h ahead", "correct the value and replay"},
	{CodeStorageRefused, "the database refuses the values", "find the constraint in the function's log; correct and replay"},
	{CodePanic, "the function failed on this event", "report the stack in the log; replay after the fix"},
	{CodeStorageAway, "the database did not answer before retries were used up", "replay once it answers"},
	{CodeOverloaded, "the function was overloaded until retries were used up", "replay at a limited rate"},
	{CodeDeliveryFailed, "the function did not answer before retries were used up", "replay once it answers"},
}

// Explain returns the reason with the given code; ok is false for an unknown code.
func Explain(code string) (r Refusal, ok bool) {
	for _, r := range Refusals {
		if r.Code == code {
			return r, true
		}
	}
	return Refusal{}, false
}
