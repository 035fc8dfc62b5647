package operators

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"marketdata/shared/fault"
	"marketdata/shared/problem"
	"marketdata/shared/secret"
)

// Access knows the people who may use the routes by the SHA-256 of their tokens.
type Access struct {
	people secret.Hashes
}

// Role is what a person may do.
type Role string

// The roles.
const (
	Operator Role = "operator" // everything
	Reader   Role = "reader"   // see and search
)

// readOnly marks the entry of a reader: name:sha256:read.
const readOnly = "read"

// NewAccess returns the access of a list of entries name:sha256 and name:sha256:read, separated by commas, and of one token whose operator
// is called "operator". Both may be empty: then the routes are closed.
func NewAccess(tokens, token string) Access {
	known, _ := parseTokens(tokens) // ValidTokens reports the error
	if token != "" {
		known = append(known, secret.Hash(string(Operator), token))
	}
	return Access{known}
}

// ValidTokens reports the entries of a list that no token can match. The error does not repeat them, because they may be secrets.
func ValidTokens(tokens string) error {
	_, err := parseTokens(tokens)
	return err
}

func parseTokens(tokens string) (secret.Hashes, error) {
	return secret.ParseHashes("DLQ_TOKENS", tokens, func(h secret.Hashed) error {
		if h.Rest != "" && h.Rest != readOnly {
			return errors.New("has something other than " + readOnly + " after the SHA-256")
		}
		return nil
	})
}

// person is who sent a request.
type person struct {
	name string
	role Role
}

// who returns the person of an Authorization header.
func (a Access) who(authorization string) (person, error) {
	if len(a.people) == 0 {
		return person{}, fault.New(fault.Invalid, fault.CodeUnauthorized, "no operator token is configured, so these routes are closed")
	}
	scheme, token, _ := strings.Cut(authorization, " ")
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		return person{}, fault.New(fault.Invalid, fault.CodeUnauthorized, "send the operator token as 'Authorization: Bearer …'")
	}
	found, known := a.people.Find(strings.TrimSpace(token))
	if !known {
		return person{}, fault.New(fault.Invalid, fault.CodeUnauthorized, "the operator token is not known")
	}
	if found.Rest == readOnly {
		return person{found.Name, Reader}, nil
	}
	return person{found.Name, Operator}, nil
}

type personKey struct{}

// guard calls next for requests that a token permits, with the person in the context. It decides by the method, so that no route that
// changes something can be left open to readers: a reader may only GET.
func (a Access) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, err := a.who(r.Header.Get("Authorization"))
		if err != nil {
			w.Header().Set("WWW-Authenticate", `Bearer realm="dlq"`)
			problem.Write(w, r, err)
			return
		}
		if p.role == Reader && r.Method != http.MethodGet && r.Method != http.MethodHead {
			problem.Write(w, r, fault.New(fault.Invalid, fault.CodeReadOnlyToken, "the token of %s may only read", p.name))
			return
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), personKey{}, p)))
	})
}

// personOf returns the person of a request that guard let through.
func personOf(ctx context.Context) person {
	p, _ := ctx.Value(personKey{}).(person)
	return p
}

// who returns the name of the person of a request that guard let through.
func who(ctx context.Context) string { return personOf(ctx).name }

type meAnswer struct {
	Body struct {
		Name string `json:"name" doc:"As the audit trail has it"`
		Role Role   `json:"role" enum:"operator,reader" doc:"A reader sees and searches; only an operator changes"`
	}
}

func (a *API) me(ctx context.Context, _ *struct{}) (*meAnswer, error) {
	p, out := personOf(ctx), &meAnswer{}
	out.Body.Name, out.Body.Role = p.name, p.role
	return out, nil
}
