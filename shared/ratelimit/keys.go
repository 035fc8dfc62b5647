package ratelimit

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"marketdata/shared/service"
)

// Keys is the setting of the known API keys: comma-separated name:sha256[:5/1m], the hash of what the client sends in hex; an optional
// limit replaces the limit of each route. A name may have several keys, so that a client can rotate its key without an interruption.
// Keys prints as REDACTED, because a weak key can be guessed from its hash.
type Keys string

// keyring holds the known API keys.
type keyring []apiKey

type apiKey struct {
	name string
	sum  [sha256.Size]byte
	own  Limit // zero: none
}

// keyHeader is the header that carries a client's key.
const keyHeader = "X-API-Key"

// parse reads the keys. Errors do not contain the entries, and do not prevent the others from being read.
func (k Keys) parse() (known keyring, err error) {
	if !k.Required() {
		return nil, nil
	}
	var errs []error
	for i, entry := range strings.Split(string(k), ",") {
		key, ok := parseKey(strings.TrimSpace(entry))
		switch {
		case !ok:
			errs = append(errs, fmt.Errorf("API_KEYS: entry %d is not name:sha256 or name:sha256:5/1m", i+1))
		case known.conflict(key):
			errs = append(errs, fmt.Errorf("API_KEYS: entry %d repeats a key or has a different limit for its name", i+1))
		default:
			known = append(known, key)
		}
	}
	return known, errors.Join(errs...)
}

// Required reports whether routes require a key.
func (k Keys) Required() bool { return strings.TrimSpace(string(k)) != "" }

// Format hides the hashes from all verbs of fmt.
func (k Keys) Format(f fmt.State, verb rune) { service.Secret(k).Format(f, verb) }

// MarshalText hides the hashes from JSON and from slog.
func (k Keys) MarshalText() ([]byte, error) { return service.Secret(k).MarshalText() }

func parseKey(entry string) (apiKey, bool) {
	name, rest, _ := strings.Cut(entry, ":")
	sum, limit, limited := strings.Cut(rest, ":")
	raw, err := hex.DecodeString(sum)
	if !isKeyName(name) || err != nil || len(raw) != sha256.Size {
		return apiKey{}, false
	}
	key := apiKey{name: name, sum: [sha256.Size]byte(raw)}
	if limited {
		key.own, err = ParseLimit(limit)
	}
	return key, err == nil
}

// isKeyName reports whether name is 1 to 64 of A-Z a-z 0-9 . _ -
func isKeyName(name string) bool {
	other := func(c rune) bool {
		return (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '.' && c != '_' && c != '-'
	}
	return name != "" && len(name) <= 64 && !strings.ContainsFunc(name, other)
}

// conflict reports whether a known entry has the same key, or the same name with another limit.
func (k keyring) conflict(key apiKey) bool {
	for _, other := range k {
		if other.sum == key.sum || (other.name == key.name && other.own != key.own) {
			return true
		}
	}
	return false
}

// find returns the known key that a request was sent with. It compares all keys, each in constant time.
func (k keyring) find(h http.Header) (apiKey, bool) {
	if len(k) == 0 {
		return apiKey{}, false
	}
	sent := h.Get(keyHeader)
	if sent == "" { // an entry with the hash of an empty key admits no request
		return apiKey{}, false
	}
	sum, found := sha256.Sum256([]byte(sent)), -1
	for i := range k {
		if subtle.ConstantTimeCompare(sum[:], k[i].sum[:]) == 1 {
			found = i
		}
	}
	if found < 0 {
		return apiKey{}, false
	}
	return k[found], true
}
