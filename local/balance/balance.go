// Package balance is the load balancer in front of a function's replicas, for the gateway and for the event sources.
package balance

import (
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"time"
)

// Proxy forwards requests to replicas, which take turns. A replica that restarts keeps its turns: the requests of these fail, and
// their senders retry.
type Proxy struct {
	httputil.ReverseProxy
	transport *http.Transport
	replicas  []*url.URL
	next      atomic.Uint64
}

// New returns the proxy of at least one base URL. answerWait is how long a replica may take to begin its response; 0: as long as the
// sender waits.
func New(replicas []string, answerWait time.Duration) (*Proxy, error) {
	p := &Proxy{transport: &http.Transport{MaxIdleConnsPerHost: 100, DisableCompression: true, ResponseHeaderTimeout: answerWait}}
	for _, text := range replicas {
		u, err := url.Parse(text)
		if err != nil {
			return nil, fmt.Errorf("address of a replica: %w", err)
		}
		p.replicas = append(p.replicas, u)
	}
	p.Transport, p.Rewrite = p.transport, p.rewrite
	return p, nil
}

// Next returns the replica whose turn it is.
func (p *Proxy) Next() *url.URL { return p.replicas[p.next.Add(1)%uint64(len(p.replicas))] }

func (p *Proxy) rewrite(r *httputil.ProxyRequest) {
	r.SetURL(p.Next())
	r.Out.URL.Path, r.Out.URL.RawPath = r.In.URL.Path, r.In.URL.RawPath
	// Unchanged: the proxy drops parameters that it cannot parse, and the function would answer another request.
	r.Out.URL.RawQuery = r.In.URL.RawQuery
	// The peer is the client: what the request said about other addresses is already removed.
	r.SetXForwarded()
}

// Close closes idle connections. Those that were opened but never used would delay the shutdown of a replica by 5 s.
func (p *Proxy) Close() { p.transport.CloseIdleConnections() }
