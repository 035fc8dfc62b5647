package service

// Secret is a config value that must not be seen: it prints as REDACTED wherever it is formatted or marshalled.
type Secret string

const redacted = "REDACTED"

// String hides the value.
func (Secret) String() string { return redacted }

// GoString hides the value from %#v.
func (Secret) GoString() string { return redacted }

// MarshalText hides the value from JSON and from slog.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
