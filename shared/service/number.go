package service

import "github.com/danielgtaylor/huma/v2"

// Number is an exact decimal in an answer: its digits are printed as they are, never through float64.
type Number string

// MarshalJSON prints the digits as a JSON number.
func (n Number) MarshalJSON() ([]byte, error) { return []byte(n), nil }

// UnmarshalJSON keeps the digits as they are.
func (n *Number) UnmarshalJSON(b []byte) error {
	*n = Number(b)
	return nil
}

// Schema tells the OpenAPI document that it is a number.
func (Number) Schema(huma.Registry) *huma.Schema { return &huma.Schema{Type: huma.TypeNumber} }
