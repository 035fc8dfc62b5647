// Package serving emulates Knative Serving for functions that scale to zero: the activator, which holds requests while no replica is
// ready; the autoscaler; and of queue-proxy the limits of time and concurrency. Processes take the place of pods.
package serving

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"time"

	"marketdata/local/balance"
	"marketdata/shared/service"
)

// Starter starts a replica, and returns its base URL. stop asks the replica to end, and returns when it is gone.
type Starter func(ctx context.Context) (address *url.URL, stop func(context.Context), err error)

// Platform runs functions, each behind one address.
type Platform struct {
	idle      time.Duration
	log       *slog.Logger
	transport *http.Transport
	revisions []*revision
	servers   []*http.Server
	end       context.CancelFunc
	ticks     sync.WaitGroup
}

// New returns a platform without functions. A function that had no request for the time idle has no replica.
func New(idle time.Duration, log *slog.Logger) *Platform {
	return &Platform{idle: idle, log: log, transport: &http.Transport{MaxIdleConnsPerHost: 100, DisableCompression: true}, end: func() {}}
}

// Add listens for the requests of a function, and returns its base URL. Call it before Run.
func (p *Platform) Add(ctx context.Context, name string, spec Spec, start Starter) (string, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("address of %s: %w", name, err)
	}
	r := &revision{name: name, spec: spec, start: start, log: p.log, transport: p.transport, changed: make(chan struct{})}
	server := service.NewServer(activator{r, &httputil.ReverseProxy{
		Rewrite: forward, Transport: r, ErrorHandler: fail, ErrorLog: slog.NewLogLogger(p.log.Handler(), slog.LevelDebug),
	}}, p.log)
	p.revisions, p.servers = append(p.revisions, r), append(p.servers, server)
	go func() { _ = server.Serve(service.Bounded(listener, 2*service.Seats)) }() // ends with Close
	return "http://" + listener.Addr().String(), nil
}

// Run scales the functions until Close.
func (p *Platform) Run() {
	ctx, end := context.WithCancel(context.Background())
	p.end = end
	p.ticks.Go(func() {
		// A tenth of the window, as Knative's panic window.
		for pause(ctx, p.idle/10) {
			for _, r := range p.revisions {
				r.scale(time.Now(), p.idle)
			}
		}
	})
}

// Close stops all replicas, and returns once they are gone or ctx ends.
func (p *Platform) Close(ctx context.Context) {
	p.end()
	p.ticks.Wait()
	var stops sync.WaitGroup
	for _, r := range p.revisions {
		stops.Go(func() { r.close(ctx) })
	}
	stops.Wait()
	for _, server := range p.servers {
		_ = server.Close()
	}
	p.transport.CloseIdleConnections()
}

// Status is the state of a function.
type Status struct {
	Function   string  `json:"function"`
	Replicas   int     `json:"replicas"`    // also those that are starting
	InFlight   int     `json:"in_flight"`   // requests at a replica
	Waiting    int     `json:"waiting"`     // requests that wait for a replica
	ColdStarts int     `json:"cold_starts"` // since the start of the platform
	P50        float64 `json:"p50_ms"`      // of the last 1,000 cold starts, from the start of the process until it is ready
	P99        float64 `json:"p99_ms"`
}

// Status returns the state of each function, in the order in which they were added.
func (p *Platform) Status() []Status {
	all := make([]Status, 0, len(p.revisions))
	for _, r := range p.revisions {
		all = append(all, r.status())
	}
	return all
}

// Replicas returns the addresses of the replicas that are ready, by function. Requests to them are not counted as load, so that who
// watches a function neither wakes it nor keeps it awake.
func (p *Platform) Replicas() map[string][]string {
	all := map[string][]string{}
	for _, r := range p.revisions {
		all[r.name] = r.ready()
	}
	return all
}

func (r *revision) ready() (addresses []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.replicas {
		if c.ready {
			addresses = append(addresses, c.url.String())
		}
	}
	return addresses
}

func (r *revision) status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	return Status{
		Function: r.name, Replicas: len(r.replicas), InFlight: r.serving, Waiting: r.waiting, ColdStarts: r.wakes.count,
		P50: milliseconds(r.wakes.quantile(0.5)), P99: milliseconds(r.wakes.quantile(0.99)),
	}
}

func milliseconds(d time.Duration) float64 {
	return float64(d.Round(100*time.Microsecond)) / float64(time.Millisecond)
}

// activator is the handler of a function's address.
type activator struct {
	revision *revision
	proxy    *httputil.ReverseProxy
}

// ServeHTTP forwards a request to a replica, starting one if there is none. It answers probes itself: they must not wake a function.
func (a activator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.UserAgent(), balance.ProbeAgent) {
		w.WriteHeader(http.StatusOK)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), a.revision.spec.Timeout)
	defer cancel()
	a.proxy.ServeHTTP(w, r.WithContext(ctx))
}

// forward appends the sender to X-Forwarded-For, as every proxy of the platform does.
func forward(r *httputil.ProxyRequest) {
	balance.KeepEnd(r.Out)
	r.Out.URL.Scheme, r.Out.URL.RawQuery = "http", r.In.URL.RawQuery // unchanged, even what the proxy cannot parse
	r.Out.Header["X-Forwarded-For"] = r.In.Header["X-Forwarded-For"]
	host := r.In.Header["X-Forwarded-Host"]
	r.SetXForwarded()
	if host != nil {
		r.Out.Header["X-Forwarded-Host"] = host
	}
	r.Out.Host = r.In.Host
}

// RoundTrip sends a request to a replica. If the replica does not accept connections any more, as after a crash, it sends the request to
// the next one that is ready.
func (r *revision) RoundTrip(req *http.Request) (*http.Response, error) {
	var cold time.Duration
	for {
		c, waited, err := r.acquire(req.Context())
		if err != nil {
			return nil, err
		}
		cold = max(cold, waited)
		out := req.Clone(req.Context())
		out.URL.Host = c.url.Host
		if req.Body != nil && req.Body != http.NoBody {
			out.Body = io.NopCloser(req.Body) // the transport closes it even if it has read nothing
		}
		resp, err := r.transport.RoundTrip(out)
		if err != nil {
			refused := isDial(err)
			r.release(c, refused)
			if refused {
				continue
			}
			return nil, err
		}
		if cold > 0 {
			resp.Header.Add("Server-Timing", fmt.Sprintf("coldstart;dur=%.1f", milliseconds(cold)))
		}
		resp.Body = &countedBody{ReadCloser: resp.Body, release: sync.OnceFunc(func() { r.release(c, false) })}
		return resp, nil
	}
}

func isDial(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// countedBody ends the request when the response has been sent.
type countedBody struct {
	io.ReadCloser
	release func()
}

// Close ends the request.
func (b *countedBody) Close() error {
	defer b.release()
	return b.ReadCloser.Close()
}

// fail answers with Knative's own texts.
func fail(w http.ResponseWriter, _ *http.Request, err error) {
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		http.Error(w, "request timeout", http.StatusGatewayTimeout)
	case errors.Is(err, errQueueFull):
		http.Error(w, "pending request queue full", http.StatusServiceUnavailable)
	default:
		http.Error(w, "the replica did not respond", http.StatusBadGateway)
	}
}
