package operators

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"

	"marketdata/shared/fault"
	"marketdata/shared/problem"
)

// Access knows the operators by the SHA-256 of their tokens.
type Access struct {
	operators []operator
}

type operator struct {
	name string
	sum  [sha256.Size]byte
}

// NewAccess returns the access of a list of name:sha256 pairs, separated by commas, and of one token whose operator is called
// "operator". Both may be empty: then the routes are closed.
func NewAccess(tokens, token string) Access {
	var a Access
	for _, pair := range strings.Split(tokens, ",") {
		if name, sum, ok := parseToken(pair); ok {
			a.operators = append(a.operators, operator{name, sum})
		}
	}
	if token != "" {
		a.operators = append(a.operators, operator{"operator", sha256.Sum256([]byte(token))})
	}
	return a
}

func parseToken(pair string) (name string, sum [sha256.Size]byte, ok bool) {
	name, text, found := strings.Cut(strings.TrimSpace(pair), ":")
	raw, err := hex.DecodeString(text)
	if !found || name == "" || err != nil || len(raw) != sha256.Size {
		return "", sum, false
	}
	return name, [sha256.Size]byte(raw), true
}

// ValidTokens reports the first pair of a list that no token can match. The error does not repeat the pair, which may be a secret.
func ValidTokens(tokens string) error {
	if tokens == "" {
		return nil
	}
	for i, pair := range strings.Split(tokens, ",") {
		if _, _, ok := parseToken(pair); !ok {
			return fmt.Errorf("DLQ_TOKENS: pair %d is not name:sha256 in hex", i+1)
		}
	}
	return nil
}

// who returns the operator of an Authorization header. The token is compared with every known one, in constant time.
func (a Access) who(authorization string) (string, error) {
	if len(a.operators) == 0 {
		return "", fault.New(fault.Invalid, fault.CodeUnauthorized, "no operator token is configured, so these routes are closed")
	}
	scheme, token, _ := strings.Cut(authorization, " ")
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		return "", fault.New(fault.Invalid, fault.CodeUnauthorized, "send the operator token as 'Authorization: Bearer …'")
	}
	sum, name := sha256.Sum256([]byte(strings.TrimSpace(token))), ""
	for _, o := range a.operators {
		if subtle.ConstantTimeCompare(sum[:], o.sum[:]) == 1 {
			name = o.name
		}
	}
	if name == "" {
		return "", fault.New(fault.Invalid, fault.CodeUnauthorized, "the operator token is not known")
	}
	return name, nil
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
