// Package market has the types of the domain: symbols, exact prices, quotes, and the interface of a provider.
//
// It does no I/O. The adapters of providers are in subfolders; package upstream is their HTTP client, package providers creates
// them from the environment, and package conformance is the test suite that each must pass.
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

// Regular expressions of a symbol, before it is parsed, and of a provider's name, for the API document. SymbolPattern allows .
// and .. between slashes, which [ParseSymbol] refuses.
const (
	SymbolPattern   = "^[A-Za-z0-9.^=/:_&+-]*[A-Za-z0-9][A-Za-z0-9.^=/:_&+-]*$"
	ProviderPattern = "^[a-z0-9_-]+$"
	LongestName     = 32 // bytes, of both
)

// ParseSymbol converts to upper case and checks the form, see [SymbolForm]. Names such as ".", "/" and "A/../B" are refused,
// because a symbol becomes part of a provider's URL and no instrument has such a name. Errors are Invalid with code
// "invalid_symbol".
func ParseSymbol(s string) (Symbol, error) {
	raise, named, dots := false, false, false
	ok := len(s) <= LongestName
	// By bytes, and before the conversion: some letters outside ASCII have an ASCII upper case.
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
		return "", fault.New(fault.Invalid, fault.CodeInvalidSymbol, "symbol must be %s", SymbolForm)
	}
	if raise {
		s = strings.ToUpper(s)
	}
	return Symbol(s), nil
}

// hasDotSegment reports whether s has a path segment that clients and servers remove (RFC 3986 section 5.2.4).
func hasDotSegment(s string) bool {
	for part := range strings.SplitSeq(s, "/") {
		if part == "." || part == ".." {
			return true
		}
	}
	return false
}

// ParseProvider checks the form of a provider's name: 1 to 32 of a–z 0–9 _ - . It does not check that there is such a provider.
// Errors are Invalid with code "invalid_provider".
func ParseProvider(s string) (string, error) {
	ok := s != "" && len(s) <= LongestName
	for i := 0; ok && i < len(s); i++ {
		c := s[i]
		ok = 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '_' || c == '-'
	}
	if !ok {
		return "", fault.New(fault.Invalid, fault.CodeInvalidProvider, "provider must be 1 to 32 of a-z 0-9 _ -")
	}
	return s, nil
}

// Quote is one observed price. ObservedAt is the provider's time, or the receive time if it returns none.
type Quote struct {
	Symbol     Symbol
	Provider   string
	Price      Price
	ObservedAt time.Time // UTC, microseconds
	Undated    bool      // the provider returns no time, or only a date: ObservedAt is the receive time
	Currency   string    // the provider's name for it (GBp is not GBP); empty if it returns none
}

// Response is a provider's raw response, the evidence for the quote that is read from it. An echo of our key in it is masked.
type Response struct {
	Status     int // HTTP status
	Body       []byte
	ReceivedAt time.Time // our clock, UTC
}

// Provider fetches quotes.
type Provider interface {
	// Name returns the provider's stable name, as in the API and in events.
	Name() string
	// Latest fetches one quote with one call. The symbol is the provider's own and is sent unchanged. Errors are faults with the codes
	// symbol_not_found (NotFound), provider_malformed, provider_auth (without a call if the key is missing), provider_rate_limited
	// (RetryAfter is the time until a call is possible), provider_unavailable and provider_timeout (all Unavailable). After an error
	// the quote is zero. No result contains the key. Latest must be safe for concurrent use, and must end when ctx does.
	Latest(ctx context.Context, symbol Symbol) (Quote, Response, error)
}
