package secret

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Hashed is a secret that is known by its SHA-256 only, and the name of its holder.
type Hashed struct {
	Name string
	Rest string // what follows the hash after another colon
	sum  [sha256.Size]byte
}

// Hash returns the hash of a secret that is known.
func Hash(name, secret string) Hashed { return Hashed{Name: name, sum: sha256.Sum256([]byte(secret))} }

// Hashes are the secrets that callers may send: the tokens of operators, or the API keys of clients.
type Hashes []Hashed

// ParseHashes parses comma-separated entries name:sha256 and name:sha256:rest, the hash in hex. A name is 1 to 64 bytes of printable
// UTF-8. It may have several secrets, so that a holder can change to a new one without an interruption; a secret has one name. check
// decides on the other rules for an entry; without it, an entry must have no rest. The error has the variable and position of each bad
// entry, but nothing of the entry, which may be a secret by mistake. The other entries are returned even then.
func ParseHashes(variable, text string, check func(Hashed) error) (Hashes, error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	var all Hashes
	var errs []error
	for i, entry := range strings.Split(text, ",") {
		h, ok := parseHashed(strings.TrimSpace(entry))
		var err error
		switch {
		case !ok, check == nil && h.Rest != "":
			err = errors.New("is not a name, a colon and a SHA-256 in hex")
		case slices.ContainsFunc(all, func(other Hashed) bool { return other.sum == h.sum }):
			err = errors.New("repeats the secret of another entry")
		case check != nil:
			err = check(h)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: entry %d %w", variable, i+1, err))
			continue
		}
		all = append(all, h)
	}
	return all, errors.Join(errs...)
}

func parseHashed(entry string) (Hashed, bool) {
	name, after, _ := strings.Cut(entry, ":")
	sum, rest, hasRest := strings.Cut(after, ":")
	raw, err := hex.DecodeString(sum)
	if !isName(name) || err != nil || len(raw) != sha256.Size || hasRest && rest == "" {
		return Hashed{}, false
	}
	return Hashed{Name: name, Rest: rest, sum: [sha256.Size]byte(raw)}, true
}

// isName keeps what Postgres does not store, and what hides in a log, out of names.
func isName(name string) bool {
	unprintable := func(c rune) bool { return !unicode.IsPrint(c) }
	return name != "" && len(name) <= 64 && utf8.ValidString(name) && !strings.ContainsFunc(name, unprintable)
}

// Find returns the entry of a secret that was sent. It compares all hashes, each in constant time. The empty secret is never found,
// even if its hash is listed.
func (all Hashes) Find(sent string) (h Hashed, found bool) {
	if len(all) == 0 || sent == "" {
		return Hashed{}, false
	}
	sum, at := sha256.Sum256([]byte(sent)), -1
	for i := range all {
		if subtle.ConstantTimeCompare(sum[:], all[i].sum[:]) == 1 {
			at = i
		}
	}
	if at < 0 {
		return Hashed{}, false
	}
	return all[at], true
}
