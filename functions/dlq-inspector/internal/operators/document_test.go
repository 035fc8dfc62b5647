package operators

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"testing"

	"github.com/danielgtaylor/huma/v2"
	"github.com/stretchr/testify/require"

	"marketdata/functions/dlq-inspector/internal/letter"
	"marketdata/shared/api"
	"marketdata/shared/ratelimit"
	"marketdata/shared/service"
	"marketdata/shared/testenv/apidoc"
)

func document() *huma.OpenAPI {
	routes := api.New(service.New(service.Config{}, slog.New(slog.DiscardHandler)), "dlq-inspector", "")
	New(Config{}).Routes(routes, func(next http.Handler) http.Handler { return next })
	routes.Document(ratelimit.Document)
	return routes.OpenAPI()
}

func TestTheDocumentIsComplete(t *testing.T) {
	t.Parallel()
	apidoc.Check(t, document())
}

// JSON encodes an embedded struct whose type is not exported, but the library's schema leaves it out.
func TestDocumentShowsAllOfALetter(t *testing.T) {
	t.Parallel()
	text, err := json.Marshal(bodyOf(letter.Stored{}, nil, nil))
	require.NoError(t, err)
	var members map[string]any
	require.NoError(t, json.Unmarshal(text, &members))
	schema := document().Components.Schemas.Map()["DlqInspectorLetterBody"]
	require.NotNil(t, schema)
	for name := range members {
		require.Contains(t, schema.Properties, name)
	}
}
