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

// RetryAfter of an error if the provider sends none.
const (
	briefly     = 2 * time.Second // transient failure
	minuteLimit = time.Minute     // limit per minute, or with an unknown period
	longestWait = 72 * time.Hour  // Binance's longest ban; a longer wait is ignored
)

// Answer is a provider's response. Echoes of the key in it are masked.
type Answer struct {
	market.Response
	RetryAfter time.Duration // of the header Retry-After; 0 if absent
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

// Decode reads the body as exactly one JSON value. It ignores a byte order mark, as RFC 8259 section 8.1 allows. A web page, a
// truncated response and any other text are provider_malformed.
func (a Answer) Decode(v any) error {
	body := bytes.TrimPrefix(a.Body, []byte("\ufeff"))
	if bytes.HasPrefix(bytes.TrimSpace(body), []byte("<")) {
		return Malformed(nil, "the response is a web page")
	}
	if err := json.Unmarshal(body, v); err != nil {
		return Malformed(err, "the response is not the provider's JSON")
	}
	return nil
}

// StatusError returns an error for the status; nil for 200 and for the statuses in pass, which the adapter handles itself.
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
	return Malformed(nil, "the provider responded with an unexpected status")
}

// Limited returns the error of a call over the provider's rate limit. wait applies if the provider sends no Retry-After.
func (a Answer) Limited(wait time.Duration) error {
	if a.RetryAfter > 0 {
		wait = a.RetryAfter
	}
	return fault.New(fault.Unavailable, fault.CodeProviderRateLimited, "the provider's rate limit is exceeded").After(wait)
}

// LimitedToday returns the error of a call over the provider's limit per day. All providers' days begin at midnight UTC.
func (a Answer) LimitedToday() error {
	const day = 24 * time.Hour
	return a.Limited(a.ReceivedAt.Truncate(day).Add(day).Sub(a.ReceivedAt))
}

// Refused returns the error of a call with an invalid key, or for a symbol that is not in the key's plan.
func Refused() error {
	return fault.New(fault.Unavailable, fault.CodeProviderAuth, "the provider refuses our key, or its plan does not include the symbol")
}

// Unavailable returns the error of a transient failure of the provider.
func (a Answer) Unavailable() error {
	wait := briefly
	if a.RetryAfter > 0 {
		wait = a.RetryAfter
	}
	return fault.New(fault.Unavailable, fault.CodeProviderUnavailable, "the provider responded with status %d", a.Status).After(wait)
}

// Malformed returns the error of a response that is neither a quote nor a known refusal. cause may be nil.
func Malformed(cause error, detail string) error {
	return fault.Wrap(cause, fault.Unavailable, fault.CodeProviderMalformed, "%s", detail)
}

// NotFound returns the error of a symbol that the provider does not have.
func NotFound(symbol market.Symbol) error {
	return fault.New(fault.NotFound, fault.CodeSymbolNotFound, "the provider does not have the symbol %s", symbol)
}

// Price reads a price with exact digits, from a JSON number or string; nil means that the quote has no price. A missing or invalid
// price (0, negative, out of range) is provider_malformed.
func Price(digits *json.Number) (market.Price, error) {
	if digits == nil {
		return market.Price{}, Malformed(nil, "the quote has no price")
	}
	p, err := market.ParsePrice(digits.String())
	if err != nil {
		return market.Price{}, Malformed(err, "the quote's price is not valid")
	}
	return p, nil
}

// Seconds reads a time in seconds since 1970. Providers have sent it as an integer, as a number with a fraction or an exponent, and
// as a string. A missing time and one that [Observed] refuses are provider_malformed.
func Seconds(digits *json.Number) (time.Time, error) {
	if digits == nil {
		return time.Time{}, Malformed(nil, "the quote has no time")
	}
	p, err := market.ParsePrice(digits.String()) // a time must be positive, bounded and exact, too
	if err != nil {
		return time.Time{}, Malformed(err, "the quote's time is not valid")
	}
	micros := p.Decimal().Shift(6).BigInt()
	if !micros.IsInt64() {
		return time.Time{}, Malformed(nil, "the quote's time is not valid")
	}
	return Observed(time.UnixMicro(micros.Int64()))
}

// Observed returns a quote's time in UTC. A time before 1970, or after the year 9999, which RFC 3339 cannot express, is
// provider_malformed.
func Observed(at time.Time) (time.Time, error) {
	if at = at.UTC(); at.Unix() < 0 || at.Year() > 9999 {
		return time.Time{}, Malformed(nil, "the quote's time is not valid")
	}
	return at, nil
}
