package api

import "github.com/danielgtaylor/huma/v2"

// Number is an exact decimal in an answer. Its digits never pass through float64.
type Number string

// MarshalJSON prints the digits as a JSON number.
func (n Number) MarshalJSON() ([]byte, error) { return []byte(n), nil }

// UnmarshalJSON keeps the digits.
func (n *Number) UnmarshalJSON(b []byte) error {
	*n = Number(b)
	return nil
}

// Schema says in the OpenAPI document that it is a number.
func (Number) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeNumber, Format: "double"} // what generated clients read it as, unless they are told to use decimals
}
