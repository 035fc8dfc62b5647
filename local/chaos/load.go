package chaos

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// load is what clients do while faults happen: quotes, jobs, backfills, streams, averages, replays. Events are in produce.go.
type load struct {
	*system
	*book
	seed   uint64
	events *events
}

// Routes that create something.
const (
	jobsPath      = "/prices/poll"
	backfillsPath = "/prices/backfill"
	replaysPath   = "/dlq/replays"
)

// inventedSymbols is how many instruments the exchange invents.
const inventedSymbols = 40

// run puts the system under load until ctx ends.
func (l *load) run(ctx context.Context) {
	var all sync.WaitGroup
	for i := range 6 {
		all.Go(func() { l.askQuotes(ctx, rand.New(rand.NewPCG(l.seed, uint64(100+i)))) }) //nolint:gosec // a small number
	}
	for _, symbols := range []string{strings.Join(eventSymbols(), ","), constSymbol} {
		all.Go(func() { l.watch(ctx, symbols) })
	}
	all.Go(func() { l.askAverages(ctx) })
	all.Go(func() { l.createJobs(ctx) })
	all.Go(func() { l.createBackfills(ctx) })
	all.Go(func() { l.replayNowAndThen(ctx) })
	all.Go(func() { l.events.produceSteadily(ctx) })
	all.Go(func() { l.events.deliverAgain(ctx) })
	all.Wait()
}

// clientAt returns a client whose requests come from a loopback address, which the gateway passes on as the client's.
func clientAt(ip string) *http.Client {
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}, Timeout: 2 * time.Second}
	return &http.Client{Transport: &http.Transport{DialContext: dialer.DialContext, MaxIdleConnsPerHost: 4, IdleConnTimeout: 5 * time.Second}}
}

// call makes a request of at most 20 s and counts its outcome. It returns status 0 if there was no response.
func (l *load) call(ctx context.Context, c *http.Client, method, path, body string, header ...string) (int, []byte) {
	status, text, _ := l.callWithHeader(ctx, c, method, path, body, header...)
	return status, text
}

// callWithHeader is call. It returns the header of the response, too.
func (l *load) callWithHeader(ctx context.Context, c *http.Client, method, path, body string, header ...string) (int, []byte, http.Header) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, l.gateway+path, strings.NewReader(body))
	if err != nil {
		panic("chaos: " + err.Error()) // our own request is wrong
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for pair := range slices.Chunk(header, 2) {
		req.Header.Set(pair[0], pair[1])
	}
	route, _, _ := strings.Cut(method+" "+path, "?")
	status, text, got := 0, []byte(nil), http.Header{}
	if resp, err := c.Do(req); err == nil {
		if text, err = io.ReadAll(resp.Body); err == nil {
			status, got = resp.StatusCode, resp.Header
		}
		_ = resp.Body.Close() // read
	}
	l.note(func() { l.statuses[fmt.Sprintf("%s %d", route, status)]++ })
	return status, text, got
}

// askQuotes asks for prices: now as one of a few clients that reach their limit, now as a client that nobody has seen before.
func (l *load) askQuotes(ctx context.Context, r *rand.Rand) {
	var greedy []*http.Client
	for i := range 3 {
		greedy = append(greedy, clientAt(fmt.Sprintf("127.0.1.%d", 1+i)))
	}
	for pause(ctx, time.Duration(50+r.IntN(300))*time.Millisecond) {
		i := r.IntN(len(greedy))
		name, client := fmt.Sprint("greedy ", i), greedy[i]
		if r.IntN(5) > 0 {
			name = fmt.Sprintf("127.%d.%d.%d", 2+r.IntN(200), r.IntN(256), 1+r.IntN(254))
			client = clientAt(name)
		}
		provider, symbol := instrument(r)
		sent := time.Now()
		status, text, header := l.callWithHeader(ctx, client, http.MethodGet, "/prices/latest?symbol="+symbol+"&provider="+provider, "")
		if status != http.StatusOK {
			continue
		}
		q := quote{sent: sent, received: time.Now(), client: name, asked: [2]string{provider, symbol}, alone: header.Get("RateLimit-Mode") != ""}
		if err := json.Unmarshal(text, &q); err != nil {
			l.wrongAnswer("GET /prices/latest: 200 with %q", text)
			continue
		}
		l.note(func() { l.quotes = append(l.quotes, q) })
	}
}

// instrument returns what a client asks for.
func instrument(r *rand.Rand) (provider, symbol string) {
	switch provider = []string{"yfinance", "binance", "coinbase", "finnhub", "twelve_data"}[r.IntN(5)]; provider {
	case "binance":
		return provider, []string{"BTCUSDT", "ETHUSDT"}[r.IntN(2)]
	case "coinbase":
		return provider, []string{"BTC-USD", "ETH-USD"}[r.IntN(2)]
	}
	return provider, fmt.Sprint("LOAD", r.IntN(inventedSymbols))
}

// insist makes a request again until it is accepted, with one idempotency key, and returns the id in the answer.
func (l *load) insist(ctx context.Context, path, key, body, member string) (id string) {
	client := clientAt(fmt.Sprintf("127.0.%d.%d", 10+len(key)%100, 1+len(body)%200))
	l.note(func() {
		if l.keys[path] == nil {
			l.keys[path] = map[string]bool{}
		}
		l.keys[path][key] = true
	})
	for {
		status, text := l.call(ctx, client, http.MethodPost, path, body, "Idempotency-Key", key, "Authorization", "Bearer "+l.token)
		if status == http.StatusAccepted {
			answer := map[string]any{}
			_ = json.Unmarshal(text, &answer) // then there is no id
			if id, _ = answer[member].(string); id == "" {
				l.wrongAnswer("POST %s: 202 with %q", path, text)
			}
			return id
		}
		if status >= http.StatusBadRequest && status < http.StatusInternalServerError && status != http.StatusTooManyRequests {
			l.wrongAnswer("POST %s: %d %s", path, status, text)
		}
		if !pause(ctx, time.Second) {
			return ""
		}
	}
}

// createJobs creates polling jobs. Each request is made twice, as by a client that lost the answer.
func (l *load) createJobs(ctx context.Context) {
	for i, body := range []string{
		`{"symbols":["LOAD1","LOAD2","LOAD3","LOAD4"],"provider":"yfinance","interval":5}`,
		`{"symbols":["LOAD3","LOAD4","LOAD5","LOAD6"],"provider":"yfinance","interval":7}`,
		`{"symbols":["BTCUSDT","ETHUSDT"],"provider":"binance","interval":5}`,
		`{"symbols":["BTC-USD"],"provider":"coinbase","interval":10}`,
		`{"symbols":["LOAD7","LOAD8"],"provider":"finnhub","interval":15}`,
		`{"symbols":["LOAD9","NOSUCH"],"provider":"yfinance","interval":6}`,
	} {
		key := fmt.Sprint("job-", i)
		for range 2 {
			if id := l.insist(ctx, jobsPath, key, body, "job_id"); id != "" {
				l.note(func() {
					if other := l.jobs[key]; other != "" && other != id {
						l.wrong = append(l.wrong, fmt.Sprintf("POST /prices/poll: key %s gave %s, then %s", key, other, id))
					}
					l.jobs[key] = id
				})
			}
		}
		if !pause(ctx, 2*time.Second) {
			return
		}
	}
}

// followed is a series of bars that is fetched and followed.
type followed struct {
	provider, symbol, interval string
	since                      time.Time
}

func follows(now time.Time) []followed {
	return []followed{
		{"yfinance", "AAPL", "1d", now.AddDate(-3, 0, 0).Truncate(24 * time.Hour)},
		{"binance", "BTCUSDT", "1m", now.Add(-6 * time.Hour).Truncate(time.Minute)},
		{"coinbase", "ETH-USD", "1m", now.Add(-3 * time.Hour).Truncate(time.Minute)},
		{"binance", "ETHUSDT", "5m", now.AddDate(0, 0, -3).Truncate(time.Hour)},
		{"twelve_data", "MSFT", "1d", now.AddDate(-1, 0, 0).Truncate(24 * time.Hour)},
	}
}

func (l *load) createBackfills(ctx context.Context) {
	for i, f := range follows(l.events.began) {
		key := fmt.Sprint("backfill-", i)
		body := fmt.Sprintf(`{"symbols":[%q],"provider":%q,"interval":%q,"start":%q}`, f.symbol, f.provider, f.interval, f.since.Format(time.RFC3339))
		if id := l.insist(ctx, backfillsPath, key, body, "backfill_id"); id != "" {
			l.note(func() { l.backfills[key] = id })
		}
		if !pause(ctx, 3*time.Second) {
			return
		}
	}
}

// replayNowAndThen replays the letters that a correction makes good, and those that nothing does.
func (l *load) replayNowAndThen(ctx context.Context) {
	for i := 0; pause(ctx, 12*time.Second); i++ {
		l.replay(ctx, i)
	}
}

func (l *load) replay(ctx context.Context, i int) {
	body := `{"filter":{"symbol":"` + fixSymbol + `"},"transform":".price |= tonumber","force":true,"rate_per_second":1000}`
	if i%4 == 3 {
		body = `{"filter":{"symbol":"` + hopelessSymbol + `"},"force":true}`
	}
	if id := l.insist(ctx, replaysPath, fmt.Sprint("replay-", i), body, "id"); id != "" {
		l.note(func() { l.replays[id] = true })
	}
}

// askAverages asks for averages of a series whose price never changes: no set of its points has another.
func (l *load) askAverages(ctx context.Context) {
	client := clientAt("127.0.0.99")
	for i := 0; pause(ctx, 300*time.Millisecond); i++ {
		query := url.Values{"symbol": {constSymbol}, "provider": {eventProvider}, "window": {fmt.Sprint([]int{5, 20, 50}[i%3])}}
		status, text := l.call(ctx, client, http.MethodGet, "/averages/latest?"+query.Encode(), "")
		var answer struct{ Average number }
		if status == http.StatusOK && (json.Unmarshal(text, &answer) != nil || answer.Average != constPrice) {
			l.wrongAnswer("GET /averages/latest of prices that are all %s: %s", constPrice, text)
		}
	}
}

// watch reads a stream, and connects again whenever it ends.
func (l *load) watch(ctx context.Context, symbols string) {
	client := clientAt("127.0.0.98")
	for pause(ctx, time.Second) {
		_ = l.read(ctx, client, symbols) // it ends with an error if its replica does
	}
}

// silence is how long a stream may say nothing: it has a comment every 10 s.
const silence = 15 * time.Second

func (l *load) read(ctx context.Context, client *http.Client, symbols string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, l.gateway+"/averages/stream?provider="+eventProvider+"&symbols="+symbols, nil)
	if err != nil {
		return err
	}
	dead := time.AfterFunc(silence, cancel)
	defer dead.Stop()
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // read
	if resp.StatusCode != http.StatusOK {
		return errStatus
	}
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		dead.Reset(silence)
		data, found := bytes.CutPrefix(lines.Bytes(), []byte("data: "))
		if !found {
			continue
		}
		var s state
		if err := json.Unmarshal(data, &s); err != nil {
			l.wrongAnswer("stream: %q", data)
			continue
		}
		l.note(func() { l.streamed[s.Symbol] = s })
	}
	return errors.Join(lines.Err(), io.EOF)
}
