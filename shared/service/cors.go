package service

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"marketdata/shared/request"
)

// Origins are the web origins whose pages may read the query routes (CORS, Fetch standard section 3.2).
type Origins struct {
	list []string
	any  bool
}

// ParseOrigins reads a comma-separated list such as https://charts.example.com,http://localhost:3000; * is every origin; empty: none.
// It reports all faults at once; they do not prevent the others from being read.
func ParseOrigins(text string) (o Origins, err error) {
	var errs []error
	for part := range strings.SplitSeq(text, ",") {
		part = strings.TrimSpace(part)
		switch {
		case part == "":
		case part == "*":
			o.any = true
		case !isOrigin(part):
			errs = append(errs, fmt.Errorf("CORS_ORIGINS: %q is not an origin such as https://charts.example.com: scheme, host and port, no path", request.Cut(part, 64)))
		default:
			o.list = append(o.list, part)
		}
	}
	return o, errors.Join(errs...)
}

// isOrigin reports an origin in the form that browsers send.
func isOrigin(text string) bool {
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || text != strings.ToLower(u.Scheme+"://"+u.Host) {
		return false
	}
	return u.Scheme == "http" && u.Port() != "80" || u.Scheme == "https" && u.Port() != "443" // browsers never send a default port
}

// exposed are the headers of answers that a page may read, besides those that every page may read.
const exposed = "RateLimit, RateLimit-Policy, RateLimit-Mode, X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset, " +
	"X-Cache, Age, Retry-After, X-Request-ID, ETag, Link, Content-Disposition"

// allowed are the headers that a page may send; a browser itself sends the last when it connects to a stream again.
const allowed = "X-API-Key, Authorization, If-None-Match, X-Request-ID, Traceparent, Last-Event-ID"

// Any reports whether there is any origin.
func (o Origins) Any() bool { return o.any || len(o.list) > 0 }

// Read wraps a query route: pages of the configured origins may read its answers, refusals included.
func (o Origins) Read(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if o.allow(w, r) {
			w.Header().Set("Access-Control-Expose-Headers", exposed)
		}
		next.ServeHTTP(w, r)
	})
}

// allow answers the Origin header, if it is one of ours.
func (o Origins) allow(w http.ResponseWriter, r *http.Request) bool {
	if o.any {
		w.Header().Set("Access-Control-Allow-Origin", "*")
		return true
	}
	w.Header().Add("Vary", "Origin") // even without an Origin: a cache must not give that answer to a page
	origin := r.Header.Get("Origin")
	if !slices.Contains(o.list, origin) {
		return false
	}
	w.Header().Set("Access-Control-Allow-Origin", origin)
	return true
}

// Preflight answers OPTIONS on a query route: other origins may only read.
func (o Origins) Preflight(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Allow", "GET, HEAD, OPTIONS")
	w.Header().Add("Vary", "Access-Control-Request-Method")
	w.Header().Add("Vary", "Access-Control-Request-Headers")
	if o.allow(w, r) {
		w.Header().Set("Access-Control-Allow-Methods", "GET, HEAD")
		w.Header().Set("Access-Control-Allow-Headers", allowed)
		w.Header().Set("Access-Control-Max-Age", "600")
	}
	w.WriteHeader(http.StatusNoContent)
}
