package priceevent

import "marketdata/shared/market"

// Codes of the reasons for which an event ends as a dead letter. They are the header dlq-code, the label of the metrics,
// and what dlq-inspector groups by: one table for all.
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

// Refusal is one reason, and what an operator can do about it.
type Refusal struct {
	Code    string
	Meaning string
	Remedy  string
}

// Refusals are all reasons, in the order in which an event is checked. The last three come only where the platform gave up
// on an event that could have succeeded.
var Refusals = []Refusal{
	{CodeBodyTooLarge, "the event is larger than MAX_EVENT_BYTES", "shorten it, or raise MAX_EVENT_BYTES, and replay"},
	{CodeUndecodable, "not a CloudEvent, or its data is not JSON", "correct the value and replay, or discard"},
	{CodeInvalidType, "the event's type is not that of a price event", "discard, and stop whoever produces it to this topic"},
	{CodeNoData, "the record has no value (a tombstone)", "discard: there is no price in it"},
	{CodeInvalidSchema, "JSON, but not of a price event's form", "correct the value and replay"},
	{CodeInvalidSymbol, "the symbol is not " + market.SymbolForm, "correct the value and replay"},
	{CodeInvalidProvider, "the source is not 1 to 32 of a-z 0-9 _ -", "correct the value and replay"},
	{CodeInvalidPrice, "the price is not a number greater than 0 of at most 20 digits before and 18 after the point", "correct the value and replay"},
	{CodeInvalidTimestamp, "the timestamp is not RFC 3339, before 1970, or more than 24 h ahead", "correct the value and replay"},
	{CodeStorageRefused, "the database refuses the values", "find the constraint in the function's log; correct and replay"},
	{CodePanic, "the function failed on this event", "report the log's stack; replay once it is mended"},
	{CodeStorageAway, "the database did not answer while retries lasted", "replay once it does"},
	{CodeOverloaded, "the function had too much to do while retries lasted", "replay, with a rate"},
	{CodeDeliveryFailed, "the function did not answer while retries lasted", "replay once it does"},
}

// Explain gives the reason of a code; ok is false for a code that is not ours.
func Explain(code string) (r Refusal, ok bool) {
	for _, r := range Refusals {
		if r.Code == code {
			return r, true
		}
	}
	return Refusal{}, false
}
