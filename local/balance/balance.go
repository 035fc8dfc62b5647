// Package balance is the load balancer in front of a function's replicas, for the gateway and for the event sources.
package balance

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

// Proxy forwards requests to the replicas that are ready, which take turns. As an ingress does, it learns of readiness by probes: a
// replica that has just failed keeps its turns until the next one, and the senders of these requests retry.
type Proxy struct {
	httputil.ReverseProxy
	transport *http.Transport
	replicas  []*replica
	next      atomic.Uint64
	stop      context.CancelFunc
	probes    sync.WaitGroup
}

type replica struct {
	url     *url.URL
	unready atomic.Bool
}

const (
	probeEvery = time.Second
	probeWait  = 3 * time.Second
)

// ErrNoneReady means that no replica is ready.
var ErrNoneReady = errors.New("no replica is ready")

// New returns the proxy of at least one base URL. Until the first probe all replicas count as ready. answerWait is how long a replica
// may take to begin its response; 0: as long as the sender waits.
func New(replicas []string, answerWait time.Duration) (*Proxy, error) {
	p := &Proxy{transport: &http.Transport{MaxIdleConnsPerHost: 100, DisableCompression: true, ResponseHeaderTimeout: answerWait}}
	for _, text := range replicas {
		u, err := url.Parse(text)
		if err != nil {
			return nil, fmt.Errorf("address of a replica: %w", err)
		}
		p.replicas = append(p.replicas, &replica{url: u})
	}
	p.Transport, p.Rewrite = p.transport, rewrite
	ctx, stop := context.WithCancel(context.Background())
	p.stop = stop
	for _, r := range p.replicas {
		p.probes.Go(func() { r.watch(ctx, p.transport) })
	}
	return p, nil
}

// targetKey is the context key of the *url.URL that a request goes to.
type targetKey struct{}

// ServeHTTP forwards a request to the replica whose turn it is. If none is ready, ErrorHandler gets [ErrNoneReady].
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	target, ok := p.Next()
	if !ok {
		if p.ErrorHandler != nil {
			p.ErrorHandler(w, r, ErrNoneReady)
		} else {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		return
	}
	p.ReverseProxy.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), targetKey{}, target)))
}

// Next returns the replica whose turn it is, of those that are ready. If none is, it returns any.
func (p *Proxy) Next() (*url.URL, bool) {
	first := p.next.Add(1)
	for i := range uint64(len(p.replicas)) {
		if r := p.replicas[(first+i)%uint64(len(p.replicas))]; !r.unready.Load() {
			return r.url, true
		}
	}
	return p.replicas[first%uint64(len(p.replicas))].url, false
}

func rewrite(r *httputil.ProxyRequest) {
	target, _ := r.In.Context().Value(targetKey{}).(*url.URL)
	r.SetURL(target)
	KeepEnd(r.Out)
	r.Out.URL.Path, r.Out.URL.RawPath = r.In.URL.Path, r.In.URL.RawPath
	// Unchanged: the proxy drops parameters that it cannot parse, and the function would answer another request.
	r.Out.URL.RawQuery = r.In.URL.RawQuery
	// The peer is the client: what the request said about other addresses is already removed.
	r.SetXForwarded()
}

// watch probes a replica until ctx ends.
func (r *replica) watch(ctx context.Context, transport http.RoundTripper) {
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			ready := Probe(ctx, transport, r.url)
			if ctx.Err() == nil {
				r.unready.Store(!ready)
			}
		}
	}
}

// ProbeAgent begins the User-Agent of probes, as of those of Kubernetes.
const ProbeAgent = "kube-probe/"

// Probe asks a replica whether it is ready.
func Probe(ctx context.Context, transport http.RoundTripper, replica *url.URL) (ready bool) {
	ctx, cancel := context.WithTimeout(ctx, probeWait)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, replica.JoinPath("/readyz").String(), nil)
	if err != nil {
		return false
	}
	req.Header.Set("User-Agent", ProbeAgent+"local")
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return false
	}
	_ = resp.Body.Close() // only the status counts
	return resp.StatusCode == http.StatusOK
}

// Close stops the probes and closes idle connections. Connections that were opened but never used would delay the shutdown of a
// replica by 5 s.
func (p *Proxy) Close() {
	p.stop()
	p.probes.Wait()
	p.transport.CloseIdleConnections()
}
