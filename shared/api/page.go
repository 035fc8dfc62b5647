package api

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"unicode/utf8"

	"marketdata/shared/fault"
)

// Page cuts a list that was read with one entry more than limit. It returns the page, and the token of the next one, nil at the end. The
// token holds the place of the page's last entry (keyset paging: pages stay right whatever is stored meanwhile); [ReadToken] reads
// it. P is as in [Token].
func Page[T, P any](all []T, limit int, place func(T) P) (page []T, next *string) {
	if len(all) <= limit {
		return all, nil
	}
	token := Token(place(all[limit-1]))
	return all[:limit], &token
}

// Token encodes a place for [ReadToken], for pages that are not simply cut from a list. JSON must be able to hold P.
func Token[P any](place P) string {
	text, err := json.Marshal(place)
	if err != nil {
		panic(err) // a bug: see P
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

// ReadToken returns the place after which a page begins, nil for the first page. Errors are Invalid with code "invalid_parameter".
func ReadToken[P any](token string) (*P, error) {
	if token == "" {
		return nil, nil //nolint:nilnil // the first page has no place before it
	}
	var place *P
	text, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err == nil {
		err = json.Unmarshal(text, &place)
	}
	if err != nil || place == nil || !utf8.Valid(text) || bytes.Contains(text, []byte(`\u0000`)) { // no place contains NUL
		return nil, fault.New(fault.Invalid, fault.CodeInvalidParameter, "page_token is invalid")
	}
	return place, nil
}
