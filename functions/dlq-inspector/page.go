package main

import (
	"embed"
	"net/http"

	"marketdata/shared/service"
)

//go:embed page
var pageFiles embed.FS

// pages mounts the operators' page. Its files hold nothing that needs a token: what it shows it asks for over the routes, with
// the token of who signed in.
func pages(srv *service.Service) {
	for path, file := range map[string]struct{ name, mediaType string }{
		"/dlq":          {"page/index.html", "text/html; charset=utf-8"},
		"/dlq/page.js":  {"page/page.js", "text/javascript; charset=utf-8"},
		"/dlq/page.css": {"page/page.css", "text/css; charset=utf-8"},
	} {
		srv.Mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			h := w.Header()
			h.Set("Content-Type", file.mediaType)
			h.Set("Cache-Control", "no-cache")
			// Payloads are hostile: even if one became markup it could load and run nothing.
			h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
			h.Set("X-Content-Type-Options", "nosniff")
			h.Set("Referrer-Policy", "no-referrer")
			content, err := pageFiles.ReadFile(file.name)
			if err != nil {
				panic(err) // they are in the binary
			}
			_, _ = w.Write(content) // an error means that the client went away
		})
	}
}
