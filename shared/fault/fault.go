// Package fault is the product's one error type: an error with a kind, a stable code and a detail that callers may see.
//
// The cause stays inside: it goes to the log, never into an answer. Start at [New] and [Wrap] to make an error, and at
// [KindOf] and [Permanent] to act on one. Mapping kinds to HTTP statuses is the business of package service alone.
package fault

import (
	"errors"
	"fmt"
	"time"
)

// Kind says what a caller can do about an error.
type Kind int

// The zero Kind is Internal: an error nobody classified. Unknown means transient (see [Permanent]).
const (
	Internal    Kind = iota // a defect or something nobody classified
	Invalid                 // the same input can never succeed
	NotFound                // the thing asked for does not exist
	Conflict                // the state forbids it; another request may have won
	Limited                 // too many requests; RetryAfter says when
	Unavailable             // a dependency is away; try again
)

// String gives the kind's name as it appears in logs and metrics.
func (k Kind) String() string {
	switch k {
	case Invalid:
		return "invalid"
	case NotFound:
		return "not_found"
	case Conflict:
		return "conflict"
	case Limited:
		return "limited"
	case Unavailable:
		return "unavailable"
	case Internal:
	}
	return "internal"
}

// Error is an error with a kind. Its fields are read-only once it is made, so it is safe for concurrent use.
type Error struct {
	Kind   Kind
	Code   string // stable snake_case name of the problem, e.g. "symbol_not_found"
	Detail string // shown to callers: no SQL, DSN, host, key or stack
	// RetryAfter is how long a caller should wait; 0 says nothing.
	RetryAfter time.Duration
	cause      error
}

// New makes an error that needs no cause. Detail is formatted with args.
func New(kind Kind, code, detail string, args ...any) *Error {
	return &Error{Kind: kind, Code: code, Detail: fmt.Sprintf(detail, args...)}
}

// Wrap makes an error around cause, which is logged but not shown.
func Wrap(cause error, kind Kind, code, detail string, args ...any) *Error {
	return &Error{Kind: kind, Code: code, Detail: fmt.Sprintf(detail, args...), cause: cause}
}

// After returns a copy of e with a wait attached.
func (e *Error) After(d time.Duration) *Error {
	c := *e
	c.RetryAfter = d
	return &c
}

// Error gives code, detail and cause: text for logs, not for callers.
func (e *Error) Error() string {
	if e.cause != nil {
		return e.Code + ": " + e.Detail + ": " + e.cause.Error()
	}
	return e.Code + ": " + e.Detail
}

// Unwrap gives the cause, so that errors.Is and errors.As see through.
func (e *Error) Unwrap() error { return e.cause }

// As finds the outermost *Error in err's chain.
func As(err error) (*Error, bool) { return errors.AsType[*Error](err) }

// KindOf gives the kind of the outermost *Error in err's chain, Internal if there is none.
func KindOf(err error) Kind {
	if e, ok := As(err); ok {
		return e.Kind
	}
	return Internal
}

// CodeOf gives the code of the outermost *Error in err's chain, "internal" if there is none.
func CodeOf(err error) string {
	if e, ok := As(err); ok {
		return e.Code
	}
	return "internal"
}

// Permanent reports whether the same bytes can never succeed. Only Invalid and NotFound say so: handlers are
// idempotent, so an error wrongly held transient costs a duplicate, one wrongly held permanent loses an event.
func Permanent(err error) bool {
	k := KindOf(err)
	return k == Invalid || k == NotFound
}
