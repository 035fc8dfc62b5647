package operators

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"marketdata/shared/fault"
)

// FuzzAccess sends any Authorization: only the token opens the routes, and no error shows what was sent.
func FuzzAccess(f *testing.F) {
	for _, header := range []string{"Bearer s3cret-token", "bearer  s3cret-token", "Bearer", "Basic s3cret-token", "Bearer s3cret-token\x00", "Bearer s3cret-token, Bearer x"} {
		f.Add(header)
	}
	a := NewAccess("", "s3cret-token")
	f.Fuzz(func(t *testing.T, header string) {
		p, err := a.who(header)
		if err != nil {
			require.Equal(t, fault.CodeUnauthorized, fault.CodeOf(err))
			require.Zero(t, p)
			if len(header) > 60 {
				require.NotContains(t, err.Error(), header)
			}
			return
		}
		require.Equal(t, Operator, p.role)
		scheme, token, _ := strings.Cut(header, " ")
		require.Equal(t, "bearer", strings.ToLower(scheme))
		require.Equal(t, "s3cret-token", strings.TrimSpace(token))
	})
}
