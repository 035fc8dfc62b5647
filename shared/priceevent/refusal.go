package priceevent

import (
	"marketdata/shared/fault"
	"marketdata/shared/market"
)

// CodeDeliveryFailed is the code of a letter that an event source wrote because the function did not answer. It is no fault's code.
const CodeDeliveryFailed = "delivery_failed"

// Refusal is the reason for a dead letter, with its remedy. Its code is the value of the header dlq-code and of the metrics' label,
// and dlq-inspector groups by it.
type Refusal struct {
	Code    string
	Meaning string
	Remedy  string
}

// Refusals has all reasons, in the order in which an event is checked. The last three are of events that could have succeeded, but
// whose retries were used up.
var Refusals = []Refusal{
	{fault.CodeBodyTooLarge, "the event is larger than MAX_EVENT_BYTES", "shorten it, or raise MAX_EVENT_BYTES, and replay"},
	{fault.CodeUndecodable, "not a CloudEvent, or its data is not JSON", "correct the value and replay, or discard"},
	{fault.CodeInvalidType, "the event's type is not that of a price event", "discard, and stop its producer from writing to this topic"},
	{fault.CodeNoData, "the record has no value (a tombstone)", "discard: there is no price in it"},
	{fault.CodeInvalidSchema, "JSON, but not of a price event's form", "correct the value and replay"},
	{fault.CodeInvalidSymbol, "the symbol is not " + market.SymbolForm, "correct the value and replay"},
	{fault.CodeInvalidProvider, "the source is not 1 to 32 of a-z 0-9 _ -", "correct the value and replay"},
	{fault.CodeInvalidPrice, "the price is not a number greater than 0 of at most 20 digits before and 18 after the point", "correct the value and replay"},
	{fault.CodeInvalidTimestamp, "the timestamp is not RFC 3339, before 1970, or more than 24 h ahead", "correct the value and replay"},
	{fault.CodeStorageRefused, "the database refuses the values", "find the constraint in the function's log; correct and replay"},
	{fault.CodePanic, "the function failed on this event", "report the stack in the log; replay after the fix"},
	{fault.CodeStorageUnavailable, "the database did not answer before retries were used up", "replay once it answers"},
	{fault.CodeOverloaded, "the function was overloaded until retries were used up", "replay at a limited rate"},
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
