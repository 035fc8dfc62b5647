package operators

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"reflect"
	"testing"

	"github.com/danielgtaylor/huma/v2"
	"github.com/stretchr/testify/require"

	"marketdata/functions/dlq-inspector/internal/letter"
	"marketdata/shared/fault"
)

func TestAccess(t *testing.T) {
	t.Parallel()
	sum := sha256.Sum256([]byte("anna's"))
	a := NewAccess("anna:"+hex.EncodeToString(sum[:]), "shared")
	for header, want := range map[string]string{"Bearer anna's": "anna", "bearer shared": "operator"} {
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
	require.NotContains(t, ValidTokens("anna:secret").Error(), "secret")
}

// JSON encodes an embedded struct whose type is not exported, but the library's schema leaves it out.
func TestDocumentShowsAllOfALetter(t *testing.T) {
	t.Parallel()
	text, err := json.Marshal(bodyOf(letter.Stored{}, nil, nil))
	require.NoError(t, err)
	var members map[string]any
	require.NoError(t, json.Unmarshal(text, &members))
	schema := huma.NewMapRegistry("#/", huma.DefaultSchemaNamer).Schema(reflect.TypeFor[LetterBody](), false, "")
	for name := range members {
		require.Contains(t, schema.Properties, name)
	}
}
