package operators

import (
	"context"
	"net/http"
	"strings"

	"marketdata/shared/fault"
	"marketdata/shared/problem"
	"marketdata/shared/secret"
)

// Access knows the operators by the SHA-256 of their tokens.
type Access struct {
	operators secret.Hashes
}

// NewAccess returns the access of a list of name:sha256 pairs, separated by commas, and of one token whose operator is called
// "operator". Both may be empty: then the routes are closed.
func NewAccess(tokens, token string) Access {
	known, _ := parseTokens(tokens) // ValidTokens reports the error
	if token != "" {
		known = append(known, secret.Hash("operator", token))
	}
	return Access{known}
}

// ValidTokens reports the pairs of a list that no token can match. The error does not repeat them, because they may be secrets.
func ValidTokens(tokens string) error {
	_, err := parseTokens(tokens)
	return err
}

func parseTokens(tokens string) (secret.Hashes, error) {
	return secret.ParseHashes("DLQ_TOKENS", tokens, nil)
}

// who returns the operator of an Authorization header.
func (a Access) who(authorization string) (string, error) {
	if len(a.operators) == 0 {
		return "", fault.New(fault.Invalid, fault.CodeUnauthorized, "no operator token is configured, so these routes are closed")
	}
	scheme, token, _ := strings.Cut(authorization, " ")
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		return "", fault.New(fault.Invalid, fault.CodeUnauthorized, "send the operator token as 'Authorization: Bearer …'")
	}
	operator, known := a.operators.Find(strings.TrimSpace(token))
	if !known {
		return "", fault.New(fault.Invalid, fault.CodeUnauthorized, "the operator token is not known")
	}
	return operator.Name, nil
}

type operatorKey struct{}

// guard calls next for requests of operators, with the operator's name in the context.
func (a Access) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, err := a.who(r.Header.Get("Authorization"))
		if err != nil {
			w.Header().Set("WWW-Authenticate", `Bearer realm="dlq"`)
			problem.Write(w, r, err)
			return
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), operatorKey{}, name)))
	})
}

// who returns the operator of a request that guard let through.
func who(ctx context.Context) string {
	name, _ := ctx.Value(operatorKey{}).(string)
	return name
}
