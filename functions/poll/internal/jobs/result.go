package jobs

import (
	"time"

	"marketdata/shared/market"
)

// Outcome is OK, or the code of the problem that a symbol failed with: a provider's, the database's or
// fault.CodeInternal; or OutOfTime.
type Outcome string

// Outcomes that are not the code of a fault.
const (
	OK Outcome = "ok"
	// OutOfTime means that the tick ran out of time before this symbol. The next tick starts with it.
	OutOfTime Outcome = "out_of_time"
)

// Result is the outcome of a symbol.
type Result struct {
	Symbol  market.Symbol
	Outcome Outcome
	// The provider that answered, its price, and when it observed the price. All are zero unless the outcome is OK. The provider is
	// empty, too, if the result is from before providers were recorded.
	Provider   string
	Price      market.Price
	ObservedAt time.Time
}

// LastResult is the last result of a job's symbol.
type LastResult struct {
	Result
	At    time.Time
	AskAt *time.Time // of a symbol that the provider does not know: the period in which it is asked again; else nil
}
