package roles

import (
	"encoding/base64"
	"testing"

	"github.com/stretchr/testify/require"
)

// The exchange of RFC 7677, section 3, has this password and salt. Its server signature comes from the same keys.
func TestVerifier(t *testing.T) {
	t.Parallel()
	salt, err := base64.StdEncoding.DecodeString("W22ZaJ0SNY7soEsUEjb6gQ==")
	require.NoError(t, err)
	require.Equal(t, "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
		verify("pencil", salt))
	one, other := verifier("pencil"), verifier("pencil")
	require.NotEqual(t, one, other, "each has a salt of its own")
}
