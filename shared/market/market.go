// Package market holds the words of the domain: symbols, exact prices, quotes, and the interface of a provider.
//
// It does no I/O. Adapters that talk to a provider live in its subfolders, one folder each; package upstream is their
// HTTP client, package providers makes them from the environment, package conformance is what each must pass.
package market

import (
	"context"
	"strings"
	"time"

	"marketdata/shared/fault"
)

// Symbol is an instrument's upper-case name, such as AAPL, BTC-USD or ^GSPC.
type Symbol string

// SymbolForm describes a valid symbol, for documentation and error texts.
const SymbolForm = "1 to 32 of A-Z 0-9 . - ^ = / : _ & +, with a letter or digit and no . or .. between slashes"

// What the API's document says of a symbol, as it may be given, and of a provider's name: regular expressions, and the longest.
// That no part of a symbol between slashes is . or .. is not in it.
const (
	SymbolPattern   = "^[A-Za-z0-9.^=/:_&+-]*[A-Za-z0-9][A-Za-z0-9.^=/:_&+-]*$"
	ProviderPattern = "^[a-z0-9_-]+$"
	LongestName     = 32 // of both, in bytes
)

// ParseSymbol raises lower case and checks the form, see [SymbolForm]. Names such as ".", "/" and "A/../B" are refused
// because a symbol becomes part of a provider's URL, and no instrument has such a name. Errors are Invalid with code
// "invalid_symbol".
func ParseSymbol(s string) (Symbol, error) {
	raise, named, dots := false, false, false
	ok := s != "" && len(s) <= LongestName
	// By bytes, and before raising: Unicode has letters outside ASCII whose upper case is inside it.
	for i := 0; ok && i < len(s); i++ {
		switch c := s[i]; {
		case 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
			named = true
		case 'a' <= c && c <= 'z':
			raise, named = true, true
		case c == '.':
			dots = true
		default:
			ok = strings.IndexByte("-^=/:_&+", c) >= 0
		}
	}
	if !ok || !named || dots && hasDotSegment(s) {
		return "", fault.New(fault.Invalid, "invalid_symbol", "symbol must be %s", SymbolForm)
	}
	if raise {
		s = strings.ToUpper(s)
	}
	return Symbol(s), nil
}

// hasDotSegment reports a path segment that clients and servers resolve (RFC 3986 section 5.2.4).
func hasDotSegment(s string) bool {
	for part := range strings.SplitSeq(s, "/") {
		if part == "." || part == ".." {
			return true
		}
	}
	return false
}

// ParseProvider checks the form of a provider's name: 1 to 32 of a–z 0–9 _ - . It does not ask whether this
// installation knows the provider. Errors are Invalid with code "invalid_provider".
func ParseProvider(s string) (string, error) {
	ok := s != "" && len(s) <= LongestName
	for i := 0; ok && i < len(s); i++ {
		c := s[i]
		ok = 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '_' || c == '-'
	}
	if !ok {
		return "", fault.New(fault.Invalid, "invalid_provider", "provider must be 1 to 32 of a-z 0-9 _ -")
	}
	return s, nil
}

// Quote is one observed price. ObservedAt is the provider's clock, or the receive time where it gives none.
type Quote struct {
	Symbol     Symbol
	Provider   string
	Price      Price
	ObservedAt time.Time // UTC, microseconds
	Undated    bool      // the provider gives no time, or only a date: ObservedAt is when we received it
	Currency   string    // as the provider names it (GBp is not GBP); empty if it does not say
}

// Response is a provider's raw answer, kept as evidence for the quote made of it; an echo of our key in it is masked.
type Response struct {
	Status     int // HTTP status
	Body       []byte
	ReceivedAt time.Time // our clock, UTC
}

// Provider turns a symbol into a quote.
type Provider interface {
	// Name is the provider's stable name, as in the API and in events.
	Name() string
	// Latest fetches one quote with one call. The symbol is the provider's own, taken as it is. Errors are fault errors
	// with the codes symbol_not_found (NotFound), provider_malformed, provider_auth (without a call if a key is missing),
	// provider_rate_limited (RetryAfter says until when), provider_unavailable and provider_timeout (all Unavailable);
	// the quote is then zero, and nothing shows the key. It must be safe for concurrent use and must end when ctx does.
	Latest(ctx context.Context, symbol Symbol) (Quote, Response, error)
}
