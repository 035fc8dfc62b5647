//go:build integration && linux

package portability

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"sync/atomic"
	"time"
)

// watchdog stands in for OpenFaaS' of-watchdog (openfaas/of-watchdog, pkg and executor) with mode=http. Durations are scaled down.
//
// It reproduces: the function is its child (fprocess), with a standard input that stays open; requests go to upstream_url with all
// their headers, nothing appended, and a body of unknown length; a failure to reach the function is 500, one later than exec_timeout
// 504, both with X-OpenFaaS-Internal; X-Duration-Seconds; 429 beyond max_inflight; /_/health and /_/ready, the latter with ready_path;
// SIGTERM goes to the function at once, while the watchdog is unhealthy and forwards for healthcheck_interval, then shuts down.
//
// It does not reproduce: the lock file, metrics, logs with prefixes, JWT, http_buffer_req_body, X-Timeout, and event streams. The
// original is the first process of its container: what is left of the function when it ends is killed.
type watchdog struct {
	function  *process
	client    *http.Client
	inFlight  chan struct{} // max_inflight; nil: unlimited
	timeout   time.Duration // exec_timeout
	interval  time.Duration // healthcheck_interval
	server    *http.Server
	accepting atomic.Bool
}

func newWatchdog(function *process, maxInFlight int, timeout time.Duration) *watchdog {
	transport := &http.Transport{MaxIdleConns: 100, MaxIdleConnsPerHost: 100, IdleConnTimeout: 500 * time.Millisecond, ExpectContinueTimeout: 1500 * time.Millisecond}
	d := &watchdog{function: function, timeout: timeout, interval: linger, client: &http.Client{
		Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	if maxInFlight > 0 {
		d.inFlight = make(chan struct{}, maxInFlight)
	}
	d.accepting.Store(true)
	return d
}

func (d *watchdog) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/_/health", "/_/ready":
		switch {
		case r.Method != http.MethodGet:
			w.WriteHeader(http.StatusMethodNotAllowed)
		case !d.accepting.Load():
			w.WriteHeader(http.StatusServiceUnavailable)
		case r.URL.Path == "/_/health":
			_, _ = io.WriteString(w, "OK")
		case d.inFlight != nil && len(d.inFlight) == cap(d.inFlight):
			w.WriteHeader(http.StatusTooManyRequests)
		default:
			ready := r.Clone(r.Context())
			ready.RequestURI, ready.Body = "/readyz", http.NoBody
			d.forward(w, ready)
		}
		return
	}
	if d.inFlight != nil {
		select {
		case d.inFlight <- struct{}{}:
			defer func() { <-d.inFlight }()
		default:
			http.Error(w, "Concurrent request limit exceeded", http.StatusTooManyRequests)
			return
		}
	}
	d.forward(w, r)
}

func (d *watchdog) forward(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(r.Context(), d.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, r.Method, "http://"+d.function.address+r.RequestURI, r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	req.Host, req.Header = r.Host, r.Header.Clone()
	resp, err := d.client.Do(req)
	w.Header().Set("X-Duration-Seconds", fmt.Sprintf("%f", time.Since(began).Seconds()))
	if err != nil {
		w.Header().Set("X-OpenFaaS-Internal", "of-watchdog")
		if ctx.Err() != nil {
			w.WriteHeader(http.StatusGatewayTimeout)
		} else {
			w.WriteHeader(http.StatusInternalServerError)
		}
		return
	}
	defer resp.Body.Close() //nolint:errcheck // read to its end below
	maps.Copy(w.Header(), resp.Header)
	w.WriteHeader(resp.StatusCode)
	_, _ = io.Copy(w, resp.Body)
}

// stop is what follows when the watchdog gets SIGTERM. It returns when the watchdog has ended.
func (d *watchdog) stop(quiet func()) error {
	if err := d.function.terminate(); err != nil {
		return err
	}
	d.accepting.Store(false)
	<-time.After(d.interval)
	quiet()
	ctx, cancel := context.WithTimeout(context.Background(), d.timeout) // write_timeout
	defer cancel()
	return d.server.Shutdown(ctx)
}
