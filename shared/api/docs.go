package api

import (
	_ "embed"
	"net/http"
	"sync"

	"github.com/swaggest/swgui/v5/static"
	"github.com/vearutop/statigz"
)

//go:embed docs.html
var docsPage []byte

// docsAssets serves Swagger UI's files. The library's own handler reads all of them when the program starts, which takes a tenth of the
// time from exec to the first answer; most replicas never show the page.
var docsAssets = sync.OnceValue(func() http.Handler { return http.StripPrefix("/docs/", statigz.FileServer(static.FS)) })

// Docs mounts /docs/, Swagger UI over the document at /openapi.json, with all assets from the binary.
func Docs(mux *http.ServeMux) {
	mux.HandleFunc("GET /docs/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-cache") // the page is the same for everyone: caches may keep and revalidate it
		if r.URL.Path != "/docs/" {
			docsAssets().ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write(docsPage) // an error means that the client went away
	})
}
