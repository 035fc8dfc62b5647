package operators

import (
	"log/slog"
	"net/http"
	"testing"

	"marketdata/shared/api"
	"marketdata/shared/ratelimit"
	"marketdata/shared/service"
	"marketdata/shared/testenv/apidoc"
)

func TestTheDocumentIsComplete(t *testing.T) {
	t.Parallel()
	routes := api.New(service.New(service.Config{}, slog.New(slog.DiscardHandler)), "dlq-inspector", "")
	New(Config{}).Routes(routes, func(next http.Handler) http.Handler { return next })
	routes.Document(ratelimit.Document)
	apidoc.Check(t, routes.OpenAPI())
}
