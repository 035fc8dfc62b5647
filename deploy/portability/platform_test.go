//go:build integration && linux

package portability

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"marketdata/shared/priceevent"
)

// Times of a stop, scaled down. SHUTDOWN_DELAY is 5 s in openfaas/stack.yaml; of-watchdog's healthcheck_interval is 30 s by default.
const (
	linger        = 500 * time.Millisecond // requests still come to an instance that stops; for a watchdog, healthcheck_interval
	shutdownDelay = 2 * linger
)

// platform is one of the settings that a function runs in.
type platform struct {
	name string
	env  func(t *testing.T) []string
	// front puts the platform's part before a function.
	front func(t *testing.T, function *process, o options) *instance
	start func(t *testing.T, cmd *exec.Cmd) *process
	// header returns the headers of request n of a client. Each lies about the client's address in another way.
	header func(client string, n int) http.Header
	tick   func() http.Header
	record func(m priceevent.Message) http.Header
}

// options are the limits of a platform's part; 0: as generous as deployed.
type options struct {
	concurrency int
	timeout     time.Duration
}

// instance is a function behind a platform's part.
type instance struct {
	*process
	platform
	url   string
	ready func() bool // as the platform sees it
	// What the platform's part holds in flight or in its queue, how much of that may wait, and its response to more.
	busy     func() int
	room     int
	overflow int
	// stop stops the instance as the platform does. It calls quiet when no load balancer sends requests any longer.
	stop   func(quiet func()) error
	client *http.Client
	who    string // the client's address
}

var platforms = []platform{
	{
		// OpenFaaS without a watchdog, as in openfaas/stack.yaml, Docker, systemd. Here clients connect to the function itself, so no
		// proxy is trusted.
		name: "plain",
		env: func(*testing.T) []string {
			return []string{"TRUSTED_PROXIES=192.0.2.0/24", fmt.Sprint("SHUTDOWN_DELAY=", shutdownDelay)}
		},
		start: launch,
		front: func(t *testing.T, p *process, _ options) *instance {
			t.Helper()
			i := &instance{process: p, url: "http://" + p.address, stop: func(quiet func()) error {
				defer quiet()
				defer func() { <-time.After(linger) }()
				return p.terminate()
			}}
			i.ready = func() bool { return status(i.url+"/_/ready", nil) == http.StatusOK }
			return i
		},
		header: func(string, int) http.Header {
			return http.Header{"X-Forwarded-For": {randomAddress(203)}, "Forwarded": {"for=" + randomAddress(203)}}
		},
		tick: pingTick, record: kafkaSourceRecord,
	},
	{
		name: "queue-proxy",
		env: func(t *testing.T) []string {
			t.Helper()
			return []string{
				"TRUSTED_PROXIES=" + setting(t, "../../knative/base/defaults.env", "TRUSTED_PROXIES"),
				"K_SERVICE=function", "K_CONFIGURATION=function", "K_REVISION=function-00001",
			}
		},
		start: launch,
		front: func(t *testing.T, p *process, o options) *instance {
			t.Helper()
			q := newQueueProxy(p, o.concurrency, o.timeout)
			server := httptest.NewServer(q)
			t.Cleanup(server.Close)
			i := &instance{process: p, url: server.URL, stop: q.stop, room: 10 * o.concurrency, overflow: http.StatusServiceUnavailable}
			i.busy = func() int { return len(q.queue) }
			i.ready = func() bool {
				return status(server.URL, http.Header{"User-Agent": {"kube-probe/1.33"}, "K-Network-Probe": {"queue"}}) == http.StatusOK
			}
			return i
		},
		// The ingress appends the client, the activator the ingress. Forwarded is queue-proxy's, or a lie.
		header: func(client string, n int) http.Header {
			h := http.Header{
				"X-Forwarded-For": {randomAddress(203) + ", " + client + ", 10.244.1.7"}, "K-Proxy-Request": {"activator"},
				"Knative-Serving-Revision": {"function-00001"}, "Knative-Serving-Namespace": {"marketdata"},
			}
			if n%2 == 1 {
				h.Set("Forwarded", "for="+randomAddress(203))
			}
			return h
		},
		tick: pingTick, record: kafkaSourceRecord,
	},
	{
		name: "of-watchdog",
		env: func(t *testing.T) []string {
			t.Helper()
			return []string{
				"TRUSTED_PROXIES=" + setting(t, "../openfaas/stack.yaml", "TRUSTED_PROXIES"), fmt.Sprint("SHUTDOWN_DELAY=", shutdownDelay),
			}
		},
		start: func(t *testing.T, cmd *exec.Cmd) *process {
			t.Helper()
			_, err := cmd.StdinPipe() // of-watchdog never writes to it
			require.NoError(t, err)
			return launch(t, cmd)
		},
		front: func(t *testing.T, p *process, o options) *instance {
			t.Helper()
			d := newWatchdog(p, o.concurrency, o.timeout)
			server := httptest.NewServer(d)
			t.Cleanup(server.Close)
			d.server = server.Config
			i := &instance{process: p, url: server.URL, stop: d.stop, overflow: http.StatusTooManyRequests}
			i.busy = func() int { return len(d.inFlight) }
			i.ready = func() bool { return status(server.URL+"/_/ready", nil) == http.StatusOK }
			return i
		},
		// The ingress appends the client; if there is no ingress, the gateway sets the client with its port.
		header: func(client string, n int) http.Header {
			h := http.Header{"X-Forwarded-For": {client + ":50123"}, "X-Call-Id": {uuid.NewString()}, "X-Start-Time": {fmt.Sprint(time.Now().UnixNano())}}
			if n%2 == 1 {
				h = http.Header{"X-Forwarded-For": {randomAddress(203) + ", " + client}, "Forwarded": {"for=" + randomAddress(203)}}
			}
			return h
		},
		tick: func() http.Header {
			return http.Header{"X-Topic": {"cron-function"}, "X-Connector": {"cron-connector"}, "Content-Type": {"text/plain"}}
		},
		record: func(m priceevent.Message) http.Header {
			h := http.Header{"X-Topic": {priceevent.DefaultTopics.Events}, "X-Kafka-Partition": {"0"}, "X-Kafka-Offset": {"1"}, "X-Kafka-Key": {m.Key}, "Content-Type": {"text/plain"}}
			for name, value := range m.Headers {
				h.Set("X-Kafka-"+name, value)
			}
			return h
		},
	},
}

func pingTick() http.Header {
	return http.Header{
		"Ce-Specversion": {"1.0"}, "Ce-Id": {uuid.NewString()}, "Ce-Source": {"/apis/v1/namespaces/marketdata/pingsources/tick"},
		"Ce-Type": {"dev.knative.sources.ping"}, "Kn-Namespace": {"marketdata"}, "Content-Type": {"application/json"},
	}
}

func kafkaSourceRecord(m priceevent.Message) http.Header {
	h := http.Header{"Prefer": {"reply"}, "Kn-Namespace": {"marketdata"}, "Ce-Knativekafkapartition": {"0"}, "Ce-Knativekafkaoffset": {"1"}}
	for name, value := range m.Headers {
		h.Set(strings.Replace(name, "ce_", "Ce-", 1), value)
	}
	return h
}

// randomAddress returns an address of a /8 that no other test uses: limits are counted in a Redis that all tests share.
func randomAddress(network byte) string {
	n := rand.Uint32()
	return net.IPv4(network, byte(n), byte(n>>8), byte(2+n>>16%250)).String()
}

// become makes the instance's requests those of a new client.
func (i *instance) become() {
	i.who = randomAddress(127) // a plain function sees it as the peer
	dialer := net.Dialer{}
	if i.name == "plain" {
		dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(i.who)}
	} else {
		i.who = randomAddress(198)
	}
	i.client = &http.Client{Transport: &http.Transport{
		DialContext: dialer.DialContext, MaxIdleConnsPerHost: 4, ExpectContinueTimeout: 20 * time.Second, // until the function reads the body
	}}
}

// answer is a response as far as the tests look at it.
type answer struct {
	status int
	header http.Header
	body   string
}

// call makes a request of the instance's client. It may be called from any goroutine.
func (i *instance) call(ctx context.Context, r request) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, r.method, i.url+r.path, r.body)
	if err != nil {
		return answer{}, err
	}
	req.Header = i.header(i.who, r.n)
	for name, values := range r.header {
		req.Header[name] = values
	}
	resp, err := i.client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close() //nolint:errcheck // read whole
	body, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, string(body)}, err
}

// status returns the status of a GET, 0 if there is no response.
func status(url string, header http.Header) int {
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return 0
	}
	req.Header = header
	resp, err := (&http.Client{Timeout: 5 * time.Second}).Do(req)
	if err != nil {
		return 0
	}
	_ = resp.Body.Close() // the status is enough
	return resp.StatusCode
}
