// Package secret is the type of configuration values that must not be seen. It stands at the bottom, beside fault: the
// functions' configs need it (as service.Secret), and so do the provider adapters, which know nothing of package service.
package secret

import (
	"fmt"
	"io"
)

// Value is a text that prints as REDACTED wherever it is formatted or marshalled; string(v) gives it away. fmt cannot
// call methods of an unexported field: keep a Value in exported fields, or out of structs that may be printed.
type Value string

const redacted = "REDACTED"

// Format hides the value from every verb of fmt, the wrong ones included.
func (Value) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) } // fmt has nowhere to report to

// String hides the value.
func (Value) String() string { return redacted }

// MarshalText hides the value from JSON and from slog.
func (Value) MarshalText() ([]byte, error) { return []byte(redacted), nil }
