package operators

import (
	"crypto/sha256"
	"encoding/hex"
	"testing"

	"github.com/stretchr/testify/require"

	"marketdata/shared/fault"
)

func TestAccess(t *testing.T) {
	t.Parallel()
	entry := func(name, role string) string {
		sum := sha256.Sum256([]byte(name + "'s"))
		return name + ":" + hex.EncodeToString(sum[:]) + role
	}
	a := NewAccess(entry("anna", "")+","+entry("rita", ":read"), "shared")
	for header, want := range map[string]person{
		"Bearer anna's": {"anna", Operator}, "Bearer rita's": {"rita", Reader}, "bearer shared": {"operator", Operator},
	} {
		t.Run(header, func(t *testing.T) {
			t.Parallel()
			got, err := a.who(header)
			require.NoError(t, err)
			require.Equal(t, want, got)
		})
	}
	for _, header := range []string{"", "Bearer", "Bearer ", "Bearer wrong", "Basic shared", "shared"} {
		t.Run(header, func(t *testing.T) {
			t.Parallel()
			_, err := a.who(header)
			require.Equal(t, "unauthorized", fault.CodeOf(err))
		})
	}
	_, err := NewAccess("", "").who("Bearer ")
	require.Equal(t, "unauthorized", fault.CodeOf(err), "without tokens the routes are closed")
	require.Error(t, ValidTokens("anna:short"))
	require.NoError(t, ValidTokens(""))
	require.NoError(t, ValidTokens(entry("rita", ":read")))
	require.EqualError(t, ValidTokens(entry("rita", ":write")), "DLQ_TOKENS: entry 1 has something other than read after the SHA-256")
	require.NotContains(t, ValidTokens("anna:secret").Error(), "secret")
}
