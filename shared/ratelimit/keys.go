package ratelimit

import (
	"errors"
	"net/http"

	"marketdata/shared/secret"
)

// Keys holds the known API keys, as SHA-256 of what clients send. It decodes from comma-separated name:sha256[:5/1m] (see
// [secret.ParseHashes]); an optional limit replaces the limit of each route, and is the same for all keys of a name. Keys prints as
// REDACTED.
type Keys struct {
	known secret.Hashes
	own   map[string]Limit // by name; zero: none
	err   error
}

// keyHeader is the header that carries a client's key.
const keyHeader = "X-API-Key"

// UnmarshalText never fails: [Config.Validate] reports errors, which do not contain the entries.
func (k *Keys) UnmarshalText(text []byte) error {
	own := map[string]Limit{}
	known, err := secret.ParseHashes("API_KEYS", string(text), func(h secret.Hashed) error {
		var limit Limit
		if h.Rest != "" {
			var err error
			if limit, err = ParseLimit(h.Rest); err != nil {
				return errors.New("has a limit that is not like 5/1m") // the text may be a secret
			}
		}
		if other, given := own[h.Name]; given && other != limit {
			return errors.New("has a different limit for its name")
		}
		own[h.Name] = limit
		return nil
	})
	*k = Keys{known, own, err}
	return nil
}

// find returns the client of the key that a request was sent with, and the limit that its key has, if any.
func (k *Keys) find(h http.Header) (name string, own Limit, known bool) {
	key, known := k.known.Find(h.Get(keyHeader))
	return key.Name, k.own[key.Name], known
}

// Required reports whether routes require a key.
func (k *Keys) Required() bool { return len(k.known) > 0 }

// String hides the hashes, because a weak key can be guessed from its hash.
func (Keys) String() string { return "REDACTED" }

// GoString hides the hashes from %#v.
func (Keys) GoString() string { return "REDACTED" }

// MarshalText hides the hashes from JSON and from slog.
func (Keys) MarshalText() ([]byte, error) { return []byte("REDACTED"), nil }
