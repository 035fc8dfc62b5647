package main

import (
	"log/slog"
	"net/http"
	"testing"

	"marketdata/shared/api"
	"marketdata/shared/market"
	"marketdata/shared/ratelimit"
	"marketdata/shared/service"
	"marketdata/shared/testenv/apidoc"
)

func TestTheDocumentIsComplete(t *testing.T) {
	t.Parallel()
	routes := api.New(service.New(service.Config{}, slog.New(slog.DiscardHandler)), "poll", "")
	unlimited := func(next http.Handler) http.Handler { return next }
	h := &handler{backfills: &backfills{historian: func(string) market.Historian { return nil }}}
	h.routes(http.NewServeMux(), routes, unlimited, unlimited)
	routes.Document(ratelimit.Document)
	apidoc.Check(t, routes.OpenAPI())
}
