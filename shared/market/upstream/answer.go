package upstream

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"time"

	"marketdata/shared/fault"
	"marketdata/shared/market"
)

// Waits that an error suggests where the provider names none.
const (
	briefly     = 2 * time.Second // a failure that passes
	minuteLimit = time.Minute     // a limit per minute, or one whose period is not known
	longestWait = 72 * time.Hour  // the longest ban of Binance; a longer one is ignored
)

// Answer is a provider's response, each echo of the key masked.
type Answer struct {
	market.Response
	RetryAfter time.Duration // what the provider's header of that name says; 0: nothing
}

// retryAfter reads RFC 9110 section 10.2.3: seconds, or a date.
func retryAfter(value string, now time.Time) time.Duration {
	var wait time.Duration
	if seconds, err := strconv.Atoi(value); err == nil {
		wait = time.Duration(min(max(seconds, 0), int(longestWait/time.Second)+1)) * time.Second
	} else if at, err := http.ParseTime(value); err == nil {
		wait = at.Sub(now)
	}
	if wait < 0 || wait > longestWait {
		return 0
	}
	return wait
}

// Decode reads the body as exactly one JSON value, after a byte order mark if there is one (RFC 8259 section 8.1 lets a
// reader ignore it). A web page, a cut answer and any other text are provider_malformed.
func (a Answer) Decode(v any) error {
	body := bytes.TrimPrefix(a.Body, []byte("\ufeff"))
	if bytes.HasPrefix(bytes.TrimSpace(body), []byte("<")) {
		return Malformed(nil, "the answer is a web page")
	}
	if err := json.Unmarshal(body, v); err != nil {
		return Malformed(err, "the answer is not the JSON of this provider")
	}
	return nil
}

// StatusError turns the status into an error. It returns nil for 200 and for the statuses in pass, which the adapter
// handles itself.
func (a Answer) StatusError(pass ...int) error {
	switch status := a.Status; {
	case status == http.StatusOK || slices.Contains(pass, status):
		return nil
	case status == http.StatusTooManyRequests:
		return a.Limited(minuteLimit)
	case status == http.StatusUnauthorized || status == http.StatusForbidden || status == http.StatusPaymentRequired:
		return Refused()
	case status >= 500 || status == http.StatusRequestTimeout || status == http.StatusTooEarly:
		return a.Unavailable()
	}
	return Malformed(nil, "the provider answers with a status nobody expects")
}

// Limited is the answer of a provider whose limit is spent; wait is for one that sends no Retry-After.
func (a Answer) Limited(wait time.Duration) error {
	if a.RetryAfter > 0 {
		wait = a.RetryAfter
	}
	return fault.New(fault.Unavailable, "provider_rate_limited", "the provider's limit is spent").After(wait)
}

// LimitedToday is the answer of a provider whose limit per day is spent: they all begin anew at midnight UTC.
func (a Answer) LimitedToday() error {
	const day = 24 * time.Hour
	return a.Limited(a.ReceivedAt.Truncate(day).Add(day).Sub(a.ReceivedAt))
}

// Refused is the answer of a provider that wants another key, or another plan for this symbol.
func Refused() error {
	return fault.New(fault.Unavailable, "provider_auth", "the provider refuses our key, or what is asked for is not in its plan")
}

// Unavailable is a failure on the provider's side that passes.
func (a Answer) Unavailable() error {
	wait := briefly
	if a.RetryAfter > 0 {
		wait = a.RetryAfter
	}
	return fault.New(fault.Unavailable, "provider_unavailable", "the provider answers with status %d", a.Status).After(wait)
}

// Malformed is an answer that is no quote and no known refusal. cause may be nil.
func Malformed(cause error, detail string) error {
	return fault.Wrap(cause, fault.Unavailable, "provider_malformed", "%s", detail)
}

// NotFound is the answer for a symbol that the provider does not have.
func NotFound(symbol market.Symbol) error {
	return fault.New(fault.NotFound, "symbol_not_found", "the provider does not have the symbol %s", symbol)
}

// Price reads a price's exact digits, which a provider may give as a JSON number or string; nil is a quote without one.
// What is no price (0, negative, absurd) is provider_malformed.
func Price(digits *json.Number) (market.Price, error) {
	if digits == nil {
		return market.Price{}, Malformed(nil, "the quote has no price")
	}
	p, err := market.ParsePrice(digits.String())
	if err != nil {
		return market.Price{}, Malformed(err, "the quote's price is not usable")
	}
	return p, nil
}

// Seconds reads a time given as seconds since 1970. Providers have sent it as an integer, as a number with a fraction or
// an exponent, and as a string. A missing time and one that [Observed] refuses are provider_malformed.
func Seconds(digits *json.Number) (time.Time, error) {
	if digits == nil {
		return time.Time{}, Malformed(nil, "the quote has no time")
	}
	p, err := market.ParsePrice(digits.String()) // positive, bounded and exact: what such a time must be, too
	if err != nil {
		return time.Time{}, Malformed(err, "the quote's time is not usable")
	}
	micros := p.Decimal().Shift(6).BigInt()
	if !micros.IsInt64() {
		return time.Time{}, Malformed(nil, "the quote's time is not usable")
	}
	return Observed(time.UnixMicro(micros.Int64()))
}

// Observed takes a quote's time in UTC. One before 1970 or after the year 9999, which RFC 3339 cannot write, is
// provider_malformed.
func Observed(at time.Time) (time.Time, error) {
	if at = at.UTC(); at.Unix() < 0 || at.Year() > 9999 {
		return time.Time{}, Malformed(nil, "the quote's time is not usable")
	}
	return at, nil
}
