package service

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"unicode/utf8"

	"marketdata/shared/fault"
)

// Page cuts a list that was read with one entry more than limit: it gives the page, and the token of the next one, nil at the
// end. A token holds what place says of the page's last entry (keyset paging: pages stay right whatever is stored meanwhile),
// and is for [ReadToken] alone; P is as in [Token].
func Page[T, P any](all []T, limit int, place func(T) P) (page []T, next *string) {
	if len(all) <= limit {
		return all, nil
	}
	token := Token(place(all[limit-1]))
	return all[:limit], &token
}

// Token writes a place for [ReadToken], where a page is not simply cut from a list. P must be something that JSON can hold.
func Token[P any](place P) string {
	text, err := json.Marshal(place)
	if err != nil {
		panic(err) // a defect: see P
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

// ReadToken gives the place after which a page begins; nil without a token: at the beginning. Errors are Invalid with code
// "invalid_parameter".
func ReadToken[P any](token string) (*P, error) {
	if token == "" {
		return nil, nil //nolint:nilnil // there is nothing before the first page
	}
	var place *P
	text, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err == nil {
		err = json.Unmarshal(text, &place)
	}
	if err != nil || place == nil || !utf8.Valid(text) || bytes.Contains(text, []byte(`\u0000`)) { // no place holds a NUL
		return nil, fault.New(fault.Invalid, "invalid_parameter", "page_token is not one of ours")
	}
	return place, nil
}
