package request

import (
	"net/http"
	"net/url"

	"marketdata/shared/fault"
)

// CheckOrigin refuses a request that a browser sends for a page of another site: such a page may read, but not change anything. Package
// api checks it for every route that changes something; other handlers call it themselves. Errors are Invalid with code
// "foreign_origin", which both surfaces answer with 403.
func CheckOrigin(r *http.Request) error {
	if foreign(r) {
		return fault.New(fault.Invalid, fault.CodeForeignOrigin, "the request comes from another site's page: it may read, but change nothing")
	}
	return nil
}

// foreign reports a request that a browser sends for a page of another origin. Current browsers send Sec-Fetch-Site (W3C Fetch
// Metadata); older ones, and all on plain HTTP, send Origin, which is compared with the host that the page sees. Other clients send
// neither.
func foreign(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "same-origin", "none":
		return false
	case "":
	default:
		return true
	}
	origin := r.Header.Get("Origin")
	if origin == "" {
		return false
	}
	u, err := url.Parse(origin)
	// A page cannot set X-Forwarded-Host without the server's consent: it comes from a proxy.
	return err != nil || u.Host == "" || u.Host != r.Host && u.Host != r.Header.Get("X-Forwarded-Host")
}
