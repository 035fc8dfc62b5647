package main

import (
	"embed"
	"io/fs"
	"net/http"

	"marketdata/shared/webpage"
)

//go:embed page
var pageFiles embed.FS

// pages mounts the operators' page. Its files are public: the page reads all that it shows from the /dlq routes, with the token of the
// operator who signed in.
func pages(mux *http.ServeMux) {
	files, err := fs.Sub(pageFiles, "page")
	if err != nil {
		panic(err) // the folder is in the binary
	}
	webpage.Handle(mux, "/dlq", "/dlq/page/", files)
}
