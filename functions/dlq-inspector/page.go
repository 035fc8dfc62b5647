package main

import (
	"embed"
	"io/fs"

	"marketdata/shared/service"
	"marketdata/shared/webpage"
)

//go:embed page
var pageFiles embed.FS

// pages mounts the operators' page. Its files are public: the page reads all that it shows from the /dlq routes, with the token of the
// operator who signed in.
func pages(srv *service.Service) {
	files, err := fs.Sub(pageFiles, "page")
	if err != nil {
		panic(err) // the folder is in the binary
	}
	webpage.Handle(srv.Mux, "/dlq", "/dlq/page/", files)
}
