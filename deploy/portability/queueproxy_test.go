//go:build integration && linux

package portability

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"time"
)

// queueProxy stands in for Knative's queue-proxy (knative/serving, cmd/queue and pkg/queue). Durations are scaled down.
//
// It reproduces: requests go to 127.0.0.1:PORT; probes are answered here, by asking the function's readiness path at 127.0.0.1 every
// 50 ms with 100 ms for each answer; the peer is appended to X-Forwarded-For; Forwarded is made of what the client sent, unless the
// client sent one; the revision's headers are removed; containerConcurrency N with a queue of 10 N, 503 beyond it; 504 "request
// timeout"; a pod that stops is unready at once, and the function gets SIGTERM once no request has come for the quiet period.
//
// It does not reproduce: HTTP/2 and TLS, metrics, tracing and request logs, the timeouts for the start of a response and for silence,
// and the function's replacement by the activator.
type queueProxy struct {
	function *process
	forward  *httputil.ReverseProxy
	queue    chan struct{} // requests that are executed or wait; nil: unlimited
	slots    chan struct{} // requests that are executed
	timeout  time.Duration // timeoutSeconds
	window   time.Duration // how long a probe tries
	quiet    time.Duration // drainSleepDuration

	mu          sync.Mutex
	draining    bool
	lastRequest time.Time
}

func newQueueProxy(function *process, concurrency int, timeout time.Duration) *queueProxy {
	q := &queueProxy{function: function, timeout: timeout, window: 200 * time.Millisecond, quiet: 500 * time.Millisecond}
	if concurrency > 0 {
		q.slots, q.queue = make(chan struct{}, concurrency), make(chan struct{}, 11*concurrency)
	}
	q.forward = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: function.address})
			r.Out.Host = r.In.Host
			for _, name := range []string{"Forwarded", "X-Forwarded-Host", "X-Forwarded-Proto"} { // which Rewrite removes
				if values := r.In.Header[name]; values != nil {
					r.Out.Header[name] = values
				}
			}
			if made := forwarded(r.In.Header); r.In.Header.Get("Forwarded") == "" && made != "" {
				r.Out.Header.Set("Forwarded", made)
			}
			peer, _, _ := net.SplitHostPort(r.In.RemoteAddr)
			r.Out.Header.Set("X-Forwarded-For", strings.Join(append(r.In.Header.Values("X-Forwarded-For"), peer), ", "))
			r.Out.Header.Del("Knative-Serving-Revision")
			r.Out.Header.Del("Knative-Serving-Namespace")
		},
		Transport:     http.DefaultTransport.(*http.Transport).Clone(), //nolint:forcetypeassert // it is one
		FlushInterval: 20 * time.Millisecond,
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if errors.Is(r.Context().Err(), context.DeadlineExceeded) {
				w.WriteHeader(http.StatusGatewayTimeout)
				_, _ = io.WriteString(w, "request timeout")
				return
			}
			http.Error(w, err.Error(), http.StatusBadGateway)
		},
	}
	return q
}

// forwarded makes the Forwarded header of the others. Like the original it reads only the first X-Forwarded-For.
func forwarded(h http.Header) string {
	nodes := strings.Split(h.Get("X-Forwarded-For"), ",")
	for i, node := range nodes {
		node = strings.TrimSpace(node)
		if strings.Contains(node, ":") {
			node = `"[` + node + `]"`
		}
		if node != "" {
			nodes[i] = "for=" + node
		}
	}
	if host := h.Get("X-Forwarded-Host"); host != "" {
		nodes[0] += ";host=" + host
	}
	if proto := h.Get("X-Forwarded-Proto"); proto != "" {
		nodes[0] += ";proto=" + proto
	}
	nodes[0] = strings.TrimPrefix(nodes[0], ";")
	return strings.Join(nodes, ", ")
}

func (q *queueProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	agent := r.UserAgent()
	if strings.HasPrefix(agent, "kube-probe/") || strings.HasPrefix(agent, "Knative-Activator-Probe") || strings.HasPrefix(agent, "Knative-Autoscaling-Probe") {
		q.probe(w, r)
		return
	}
	q.mu.Lock()
	q.lastRequest = time.Now()
	q.mu.Unlock()
	ctx, cancel := context.WithTimeout(r.Context(), q.timeout)
	defer cancel()
	if q.queue != nil {
		select {
		case q.queue <- struct{}{}:
			defer func() { <-q.queue }()
		default:
			http.Error(w, "pending request queue full", http.StatusServiceUnavailable)
			return
		}
		q.slots <- struct{}{}
		defer func() { <-q.slots }()
	}
	q.forward.ServeHTTP(w, r.WithContext(ctx))
}

func (q *queueProxy) probe(w http.ResponseWriter, r *http.Request) {
	q.mu.Lock()
	draining := q.draining
	q.mu.Unlock()
	switch value := r.Header.Get("K-Network-Probe"); {
	case draining:
		http.Error(w, "shutting down", http.StatusServiceUnavailable)
	case value != "queue":
		http.Error(w, "unexpected probe header value: "+value, http.StatusBadRequest)
	case !q.functionReady(r.Context()):
		w.WriteHeader(http.StatusServiceUnavailable)
	default:
		_, _ = io.WriteString(w, "queue")
	}
}

func (q *queueProxy) functionReady(ctx context.Context) bool {
	client := http.Client{Timeout: 100 * time.Millisecond}
	for end := time.Now().Add(q.window); time.Now().Before(end); <-time.After(50 * time.Millisecond) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+q.function.address+"/readyz", nil)
		if err != nil {
			return false
		}
		req.Header.Set("User-Agent", "kube-probe/1.33")
		resp, err := client.Do(req)
		if err != nil {
			continue
		}
		_ = resp.Body.Close() // the status is enough
		if resp.StatusCode >= 200 && resp.StatusCode < 400 {
			return true
		}
	}
	return false
}

// stop is what follows when the pod is deleted. It returns when the function has got SIGTERM.
func (q *queueProxy) stop(quiet func()) error {
	q.mu.Lock()
	q.draining, q.lastRequest = true, time.Now()
	q.mu.Unlock()
	<-time.After(linger)
	quiet()
	for {
		q.mu.Lock()
		left := q.quiet - time.Since(q.lastRequest)
		q.mu.Unlock()
		if left <= 0 {
			break
		}
		<-time.After(left)
	}
	return q.function.terminate()
}
