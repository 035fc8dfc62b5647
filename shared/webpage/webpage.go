// Package webpage serves the product's own pages: static files from the binary, with a policy that forbids resources of other
// sites and inline code. It also has what all pages share: the design tokens ("tokens.css"), the look of text, controls and the frame
// ("base.css"), and helpers that show hostile text as text ("dom.js").
package webpage

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"net/http"
	"path"
	"time"
)

//go:embed *.css *.js
var common embed.FS

// policy is the Content-Security-Policy of every page. Pages show untrusted payloads: even if one became markup, it could neither
// load nor run anything.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// mediaTypes are explicit because package mime reads tables of the host, which differ. Other files are not served.
var mediaTypes = map[string]string{
	".html": "text/html; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".svg":  "image/svg+xml",
}

// Handle serves index.html at the pattern index, and the other files and those that all pages share below the path dir, which ends with a
// slash.
// The files are public: a page that shows secrets must request them with credentials.
func Handle(mux *http.ServeMux, index, dir string, files fs.FS) {
	mux.HandleFunc("GET "+index, func(w http.ResponseWriter, r *http.Request) { serve(w, r, files, "index.html") })
	mux.HandleFunc("GET "+dir+"{file}", func(w http.ResponseWriter, r *http.Request) { serve(w, r, files, r.PathValue("file")) })
}

func serve(w http.ResponseWriter, r *http.Request, files fs.FS, name string) {
	content, err := fs.ReadFile(common, name)
	if err != nil {
		content, err = fs.ReadFile(files, name)
	}
	mediaType, known := mediaTypes[path.Ext(name)]
	if err != nil || !known {
		http.NotFound(w, r)
		return
	}
	sum := sha256.Sum256(content)
	h := w.Header()
	h.Set("Content-Type", mediaType)
	h.Set("Cache-Control", "no-cache") // a new release is visible at once; unchanged files cost a 304
	h.Set("ETag", `"`+hex.EncodeToString(sum[:8])+`"`)
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
}
