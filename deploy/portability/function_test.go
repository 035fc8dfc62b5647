//go:build integration && linux

package portability

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"marketdata/shared/market"
	"marketdata/shared/postgres"
	"marketdata/shared/priceevent"
	"marketdata/shared/testenv"
)

// request is a request to a function.
type request struct {
	method, path string
	header       http.Header
	body         io.Reader
	n            int // counts the requests of a client, see platform.header
}

// post is a POST request, with the status of its response. Without the body it has another.
type post struct {
	request
	content                string
	status, withoutBody    int
	readsBody, storesPrice bool
}

// function is one of the four programs.
type function struct {
	name  string
	posts func(p platform) []post
	// work makes a request that a platform or a client sends all the time.
	work  func(p platform) request
	table string // that work needs
	// limited makes the request whose limit is per client and minute; nil: there is none.
	limited func() request
	limit   int
	// servesWithoutPostgres: it is ready without Postgres.
	servesWithoutPostgres bool
}

var functions = []function{
	{
		name: "get-latest", table: "price_points", servesWithoutPostgres: true, limit: 5,
		posts: func(platform) []post {
			return []post{{
				request: request{method: http.MethodPost, path: "/prices/latest"}, content: "{}",
				status: http.StatusMethodNotAllowed, withoutBody: http.StatusMethodNotAllowed,
			}}
		},
		work: func(platform) request {
			return request{method: http.MethodGet, path: "/prices/history?symbol=PORTABLE"}
		},
		limited: func() request { return request{method: http.MethodGet, path: "/prices/latest?symbol=PORTABLE"} },
	},
	{
		name: "poll", table: "polling_jobs", limit: 10,
		posts: func(p platform) []post {
			return []post{
				ticks(p)[0],
				{request: jobRequest(), content: job, status: http.StatusAccepted, withoutBody: http.StatusBadRequest, readsBody: true},
			}
		},
		work: tickRequest,
		limited: func() request {
			r := jobRequest()
			r.body = strings.NewReader(job)
			return r
		},
	},
	{
		name: "compute-ma", table: "price_points",
		posts: func(p platform) []post {
			m := price()
			r := request{method: http.MethodPost, path: "/", header: p.record(m)}
			// Without a body it is a tombstone, which becomes a dead letter.
			return []post{{request: r, content: string(m.Value), status: http.StatusNoContent, withoutBody: http.StatusNoContent, readsBody: true, storesPrice: true}}
		},
		work: func(p platform) request {
			m := price()
			return request{method: http.MethodPost, path: "/", header: p.record(m), body: strings.NewReader(string(m.Value))}
		},
	},
	{name: "dlq-inspector", table: "dead_letters", posts: ticks, work: tickRequest},
}

// job polls so rarely that it does not during the test.
const job = `{"symbols":["PORTABLE"],"interval":86400}`

func jobRequest() request {
	return request{method: http.MethodPost, path: "/prices/poll", header: http.Header{"Content-Type": {"application/json"}}}
}

func tickRequest(p platform) request {
	return request{method: http.MethodPost, path: "/", header: p.tick(), body: strings.NewReader("{}")}
}

func ticks(p platform) []post {
	return []post{{
		request: request{method: http.MethodPost, path: "/", header: p.tick()}, content: "{}",
		status: http.StatusNoContent, withoutBody: http.StatusNoContent, readsBody: true,
	}}
}

// price returns a price event of a series of its own.
func price() priceevent.Message {
	amount, _ := market.ParsePrice("150.25")          // a valid one
	m, _ := priceevent.Encode(priceevent.Observation{ // fails only for what JSON cannot say
		Symbol: market.Symbol("P" + strings.ToUpper(uuid.NewString()[:8])), Provider: "yfinance", Price: amount,
		ObservedAt: time.Now().Add(-time.Minute).UTC().Truncate(time.Microsecond), RawResponseID: uuid.New(),
	})
	return m
}

// provider is a fake Yahoo. It holds calls for symbols that begin with SLOW until they are released.
type provider struct {
	mu   sync.Mutex
	held map[string]*gate
}

// gate is passed by one caller once it is open.
type gate struct {
	reached, open chan struct{}
	once          sync.Once
}

func newGate() *gate { return &gate{reached: make(chan struct{}), open: make(chan struct{})} }

func (g *gate) release() { g.once.Do(func() { close(g.open) }) }

func (p *provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	g := p.held[path.Base(r.URL.Path)]
	p.mu.Unlock()
	if g != nil {
		close(g.reached)
		<-g.open
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = fmt.Fprintf(w, `{"chart":{"error":null,"result":[{"meta":{"regularMarketPrice":1.5,"regularMarketTime":%d}}]}}`, time.Now().Unix())
}

// heldBody is a body that is read only once its gate is open.
type heldBody struct {
	*gate
	content io.Reader
	begun   bool
}

func (b *heldBody) Read(p []byte) (int, error) {
	if !b.begun {
		b.begun = true
		close(b.reached)
	}
	<-b.open
	return b.content.Read(p)
}

// Close unblocks Read: the client gives up.
func (b *heldBody) Close() error {
	b.release()
	return nil
}

// world is what the functions of a test share.
type world struct {
	database string
	pool     *pgxpool.Pool
	provider *provider
	yahoo    string
	redis    string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{database: testenv.PostgresURL(t), provider: &provider{held: map[string]*gate{}}}
	pool, err := postgres.Open(t.Context(), w.database)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	w.pool = pool
	testenv.Redis(t)                 // requires it
	w.redis = os.Getenv("REDIS_URL") //nolint:forbidigo // where tests find their services
	server := httptest.NewServer(w.provider)
	t.Cleanup(server.Close)
	w.yahoo = server.URL
	return w
}

// pair is a function and a platform to run it on.
type pair struct {
	p platform
	f function
}

// pairs returns every function on each of the platforms, by their names.
func pairs(platforms []platform) map[string]pair {
	all := map[string]pair{}
	for _, p := range platforms {
		for _, f := range functions {
			all[p.name+"/"+f.name] = pair{p, f}
		}
	}
	return all
}

// env returns the settings of a function. Limits that the tests do not look at are wide enough for their load.
func (w *world) env(t *testing.T, p platform) []string {
	t.Helper()
	return append(p.env(t), "DATABASE_URL="+w.database, "REDIS_URL="+w.redis, "YFINANCE_BASE_URL="+w.yahoo,
		"YFINANCE_BUDGET=off", "PROVIDER_TIMEOUT=20s", "RATE_LIMIT_DEFAULT=100000/1m", "RATE_LIMIT_TIMEOUT=10s", "DLQ_TOKEN=secret")
}

// start runs a function behind the platform's part, and returns it once it is ready and has answered a request.
func (w *world) start(t *testing.T, p platform, f function, prepare ...func(*testing.T, *exec.Cmd)) (i *instance, coldStart time.Duration) {
	t.Helper()
	cmd := command(t, f.name, w.env(t, p)...)
	for _, change := range prepare {
		change(t, cmd)
	}
	i = p.before(t, p.start(t, cmd), options{})
	require.Eventually(t, func() bool { return i.ready() && status(i.url+"/healthz", nil) == http.StatusOK }, coldStartLimit, time.Millisecond)
	return i, time.Since(i.began)
}

// coldStartLimit is for a machine that is busy with the other tests.
const coldStartLimit = 5 * time.Second

// before puts the platform's part before a function.
func (p platform) before(t *testing.T, function *process, o options) *instance {
	t.Helper()
	if o.timeout == 0 {
		o.timeout = 45 * time.Second
	}
	i := p.front(t, function, o)
	i.platform = p
	i.become()
	return i
}

// held is a request in flight: the function waits for the rest of the body, or for the provider.
type held struct {
	*gate
	answer chan answer
}

// hold sends a request, and returns when the function executes it. The first byte of the body is only sent after the function's
// 100 Continue.
func (w *world) hold(t *testing.T, i *instance, f function) held {
	t.Helper()
	h := held{newGate(), make(chan answer, 1)}
	t.Cleanup(h.release)
	var r request
	if f.name == "get-latest" {
		symbol := "SLOW" + strings.ToUpper(uuid.NewString()[:8])
		w.provider.mu.Lock()
		w.provider.held[symbol] = h.gate
		w.provider.mu.Unlock()
		r = request{method: http.MethodGet, path: "/prices/latest?symbol=" + symbol}
	} else {
		r = f.work(i.platform)
		r.header.Set("Expect", "100-continue")
		r.body = &heldBody{gate: h.gate, content: r.body}
	}
	go func() {
		a, err := i.call(context.WithoutCancel(t.Context()), r)
		if err != nil {
			a.body = err.Error()
		}
		h.answer <- a
	}()
	select {
	case <-h.reached:
	case a := <-h.answer:
		require.FailNow(t, "the function does not wait", "%+v", a)
	case <-time.After(10 * time.Second):
		require.FailNow(t, "the request does not reach the function")
	}
	return h
}

func ok(a answer) bool { return a.status >= 200 && a.status < 300 }
