package ratelimit

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"marketdata/shared/secret"
)

// Keys is the setting of the known API keys: comma-separated name:sha256[:5/1m] (see [secret.ParseHashes]), the hash of what clients
// send; an optional limit replaces the limit of each route, and is the same for all keys of a name. Keys prints as REDACTED, because
// a weak key can be guessed from its hash.
type Keys string

// keyring holds the known API keys. The zero keyring knows none.
type keyring struct {
	known secret.Hashes
	own   map[string]Limit // by name; zero: none
}

// keyHeader is the header that carries a client's key.
const keyHeader = "X-API-Key"

// parse reads the keys. Errors do not contain the entries, and do not prevent the others from being read.
func (k Keys) parse() (keyring, error) {
	own := map[string]Limit{}
	known, err := secret.ParseHashes("API_KEYS", string(k), func(h secret.Hashed) error {
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
	return keyring{known, own}, err
}

// Required reports whether routes require a key.
func (k Keys) Required() bool { return strings.TrimSpace(string(k)) != "" }

// Format hides the hashes from all verbs of fmt.
func (k Keys) Format(f fmt.State, verb rune) { secret.Value(k).Format(f, verb) }

// MarshalText hides the hashes from JSON and from slog.
func (k Keys) MarshalText() ([]byte, error) { return secret.Value(k).MarshalText() }

// find returns the client of the key that a request was sent with, and the limit that its key has, if any.
func (k keyring) find(h http.Header) (name string, own Limit, known bool) {
	key, known := k.known.Find(h.Get(keyHeader))
	return key.Name, k.own[key.Name], known
}
