// Package secret is the type of configuration values that must not be shown, and the parser of lists of hashed secrets. Like fault, it
// is at the bottom: the functions' configs use it (as service.Secret), and so do the provider adapters, which do not import package
// service.
package secret

import (
	"fmt"
	"io"
)

// Value is a text that is formatted and marshalled as REDACTED; string(v) returns the text. fmt cannot call methods of an
// unexported field: keep a Value in exported fields, or out of structs that may be printed.
type Value string

const redacted = "REDACTED"

// Format hides the value from all verbs of fmt, including wrong ones.
func (Value) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) } // fmt.Formatter returns no error

// String hides the value.
func (Value) String() string { return redacted }

// MarshalText hides the value from JSON and from slog.
func (Value) MarshalText() ([]byte, error) { return []byte(redacted), nil }
