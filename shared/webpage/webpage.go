// Package webpage serves the product's own pages: static files from the binary, under a policy that lets them load nothing
// from elsewhere and run nothing inline. It also holds the design tokens that all pages share ("tokens.css").
package webpage

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"io/fs"
	"net/http"
	"path"
	"time"
)

//go:embed tokens.css
var tokens []byte

// policy is the Content-Security-Policy of every page. Pages show hostile payloads: even if one became markup, it could load
// nothing and run nothing.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// mediaTypes are written out because package mime reads the host's tables, which differ. A file of another kind is not served.
var mediaTypes = map[string]string{
	".html": "text/html; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".svg":  "image/svg+xml",
}

// Handle serves the file index.html at the pattern index, and all other files, with tokens.css, below the path dir, which ends
// with a slash. The files are public: a page that shows secrets has to ask for them with credentials of its own.
func Handle(mux *http.ServeMux, index, dir string, files fs.FS) {
	mux.HandleFunc("GET "+index, func(w http.ResponseWriter, r *http.Request) { serve(w, r, files, "index.html") })
	mux.HandleFunc("GET "+dir+"{file}", func(w http.ResponseWriter, r *http.Request) { serve(w, r, files, r.PathValue("file")) })
}

func serve(w http.ResponseWriter, r *http.Request, files fs.FS, name string) {
	content, err := fs.ReadFile(files, name)
	if name == "tokens.css" {
		content, err = tokens, nil
	}
	mediaType, known := mediaTypes[path.Ext(name)]
	if err != nil || !known {
		http.NotFound(w, r)
		return
	}
	sum := sha256.Sum256(content)
	h := w.Header()
	h.Set("Content-Type", mediaType)
	h.Set("Cache-Control", "no-cache") // a new release shows at once; what has not changed costs a 304
	h.Set("ETag", `"`+hex.EncodeToString(sum[:8])+`"`)
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
}
