package api

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"strings"
	"unicode/utf8"

	"marketdata/shared/fault"
)

// Paging is the part of a request that asks for one page of a list. Embed it.
type Paging struct {
	Limit     int    `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"Entries per page, at most" example:"100"`
	PageToken string `query:"page_token" maxLength:"400" doc:"next_page_token of the page before, with the same query; empty: the first page" example:"gR9mS0Y2b4kT1wVxqJ7nPTE3MTA5MzA2MDAwMDAwMDA"`
}

// Next is the part of a page's body that leads to the next page. Embed it last.
type Next struct {
	NextPageToken *string `json:"next_page_token" nullable:"true" doc:"null on the last page"`
}

// ExampleToken has the form of a page token, for the document.
const ExampleToken = "gR9mS0Y2b4kT1wVxqJ7nPTE3MTA5MzA2MDAwMDAwMDA" //nolint:gosec // not a secret

// ErrPageToken is Invalid with code "invalid_parameter".
var ErrPageToken error = fault.New(fault.Invalid, fault.CodeInvalidParameter, "page_token is not one of this query's")

// Query is what the pages of one list have in common. A page token is refused with any other query.
type Query struct{ parts, key []byte }

// QueryOf returns the query with these parts: all that selects and orders the entries of the list, without the size of the page. JSON
// must be able to hold them.
func QueryOf(parts ...any) Query { return Query{parts: encode(parts)} }

// SignedWith returns the query with tokens that only the owner of the key can make. Without a key, anybody can make a token of any cursor,
// which must then lead to nothing that the query would not show anyway.
func (q Query) SignedWith(key []byte) Query {
	q.key = key
	return q
}

const sumLength = 16 // bytes

func (q Query) sum(cursor []byte) []byte {
	mac := hmac.New(sha256.New, q.key)
	mac.Write(q.parts)
	mac.Write(cursor)
	return mac.Sum(nil)[:sumLength]
}

// Page cuts a list that was read with one entry more than limit. It returns the page, and the token of the next one. The token has the
// cursor of the page's last entry (keyset paging: pages stay right whatever is stored meanwhile); [ReadToken] reads it. C is as in [Token].
func Page[T, C any](q Query, all []T, limit int, cursor func(T) C) (page []T, next Next) {
	if len(all) <= limit {
		return all, Next{}
	}
	token := Token(q, cursor(all[limit-1]))
	return all[:limit], Next{&token}
}

// Token encodes a cursor for [ReadToken], for pages that are not simply cut from a list. JSON must be able to hold C.
func Token[C any](q Query, cursor C) string {
	text := encode(cursor)
	return base64.RawURLEncoding.EncodeToString(append(q.sum(text), text...))
}

// ReadToken returns the cursor after which a page begins, nil for the first page. The error is [ErrPageToken].
func ReadToken[C any](q Query, token string) (*C, error) {
	if token == "" {
		return nil, nil //nolint:nilnil // the first page has no cursor
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(raw) < sumLength || strings.ContainsAny(token, "\r\n") { // the decoder skips line breaks
		return nil, ErrPageToken
	}
	sum, text := raw[:sumLength], raw[sumLength:]
	if !hmac.Equal(sum, q.sum(text)) || !utf8.Valid(text) || bytes.Contains(text, []byte(`\u0000`)) { // no cursor contains NUL
		return nil, ErrPageToken
	}
	var cursor *C
	if json.Unmarshal(text, &cursor) != nil || cursor == nil {
		return nil, ErrPageToken
	}
	return cursor, nil
}

func encode(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // a bug: see QueryOf and Token
	}
	return text
}
