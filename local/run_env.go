package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"sync/atomic"
	"time"

	"marketdata/local/exchange"
)

// envFile holds the variables that a shell sources to reach every part of the stack.
type envFile map[string]string

// write replaces the file atomically. Only its owner can read it, because it holds secrets.
func (e envFile) write(path string) error {
	names := make([]string, 0, len(e))
	for name := range e {
		names = append(names, name)
	}
	sort.Strings(names)
	var b bytes.Buffer
	for _, name := range names {
		fmt.Fprintf(&b, "export %s='%s'\n", name, strings.ReplaceAll(e[name], "'", `'\''`))
	}
	temp := path + ".new"
	if err := os.WriteFile(temp, b.Bytes(), 0o600); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(temp, path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// dlqToken returns the operator token of the environment, or else one that is generated once for this folder.
func (s *stack) dlqToken() (string, error) {
	if s.cfg.DLQToken != "" {
		return s.cfg.DLQToken, nil
	}
	file := filepath.Join(s.cfg.Dir, "dlq-token")
	if b, err := os.ReadFile(file); err == nil && len(bytes.TrimSpace(b)) > 0 { //nolint:gosec // our own file
		return string(bytes.TrimSpace(b)), nil
	}
	raw := make([]byte, 16)
	_, _ = rand.Read(raw) // never fails (crypto/rand since Go 1.24)
	token := hex.EncodeToString(raw)
	if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("store the dead letter token: %w", err)
	}
	return token, nil
}

// localKey is the provider key of a stack that uses the exchange, which accepts any key. It is not a secret.
const localKey = "local-key-no-secret"

// exchangeEnv points the functions at the exchange, with a key for each provider that needs one. Base URLs and keys of the
// environment take precedence; a provider with its own base URL gets no key from here.
func exchangeEnv(environ []string, exchangeURL string) []string {
	given := map[string]bool{}
	for _, v := range environ {
		name, value, _ := strings.Cut(v, "=")
		given[name] = value != ""
	}
	var env []string
	for _, p := range exchange.Providers() {
		variable := strings.ToUpper(p.Name)
		if given[variable+"_BASE_URL"] {
			continue
		}
		env = append(env, variable+"_BASE_URL="+exchangeURL+"/"+p.Name)
		if p.NeedsKey && !given[variable+"_API_KEY"] && !given[variable+"_API_KEY_FILE"] {
			env = append(env, variable+"_API_KEY="+localKey)
		}
	}
	return env
}

// functionEnv returns the environment of the functions: our own, with the addresses of this stack.
func (s *stack) functionEnv() []string {
	env := append(slices.Concat(s.freeCalls(), os.Environ(), withoutFiles),
		"DATABASE_URL="+s.env["DATABASE_URL"], "REDIS_URL="+s.env["REDIS_URL"],
		"KAFKA_BOOTSTRAP_SERVERS="+s.env["KAFKA_BOOTSTRAP_SERVERS"], "DLQ_TOKEN="+s.env["DLQ_TOKEN"])
	if base := s.env["EXCHANGE_URL"]; base != "" && !s.cfg.Live {
		env = append(env, exchangeEnv(os.Environ(), base)...)
	}
	return env
}

// freeCalls turns the providers' budgets off if the exchange replaces them. It goes before the environment in the list, so that a
// budget set there wins: the last value of a variable counts.
func (s *stack) freeCalls() (env []string) {
	if s.env["EXCHANGE_URL"] == "" || s.cfg.Live {
		return nil
	}
	for _, p := range exchange.Providers() {
		env = append(env, strings.ToUpper(p.Name)+"_BUDGET=off")
	}
	return env
}

// balance starts a round-robin load balancer on loopback and returns its URL.
func (s *stack) balance(ctx context.Context, list []string) (string, error) {
	if len(list) == 1 {
		return list[0], nil
	}
	var targets []*url.URL
	for _, text := range list {
		u, err := url.Parse(text)
		if err != nil {
			return "", fmt.Errorf("balance: %w", err)
		}
		targets = append(targets, u)
	}
	var next atomic.Uint64
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("balance: %w", err)
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 100}
	// A connection that was opened but never used would delay the function's shutdown by 5 s.
	s.stops = append(s.stops, func(context.Context) { transport.CloseIdleConnections() })
	s.serve(l, &httputil.ReverseProxy{
		Rewrite:   func(p *httputil.ProxyRequest) { p.SetURL(targets[next.Add(1)%uint64(len(targets))]) },
		Transport: transport,
	})
	return "http://" + l.Addr().String(), nil
}

func (s *stack) banner(took time.Duration) {
	gate := s.env["GATEWAY_URL"]
	lines := []string{
		fmt.Sprintf("ready after %.1f s; Ctrl-C stops everything", took.Seconds()),
		"page       " + gate + "/        API " + gate + "/docs/",
		"variables  . " + s.envPath(),
		"dead letter token " + s.env["DLQ_TOKEN"],
		"try        curl '" + gate + "/prices/latest?symbol=AAPL&provider=yfinance'",
		"try        curl '" + gate + "/averages/latest?symbol=AAPL&provider=yfinance&window=5'",
		`try        . ` + s.envPath() + ` && psql "$DATABASE_URL" -c 'table symbol_averages'`,
	}
	for _, line := range lines {
		s.say(line)
	}
}

// demo creates a polling job for each of the exchange's symbols, once for this folder, so that the page shows changing prices.
func (s *stack) demo(ctx context.Context) {
	marker := filepath.Join(s.cfg.Dir, "demo-jobs")
	if _, err := os.Stat(marker); err == nil || !s.cfg.Demo || len(s.urls["poll"]) == 0 {
		return
	}
	for _, symbol := range exchange.New(0, time.Now).Symbols() {
		if err := createJob(ctx, s.urls["poll"][0], symbol); err != nil {
			s.say("demo: " + err.Error())
			return
		}
	}
	_ = os.WriteFile(marker, nil, 0o600) // if this fails, the next start sends the same idempotency keys again
	s.say("demo: polling every symbol of the exchange every 5 s (DEMO=0 turns this off)")
}

func createJob(ctx context.Context, poll, symbol string) error {
	body, err := json.Marshal(map[string]any{"symbols": []string{symbol}, "interval": 5, "provider": "yfinance"})
	if err != nil {
		return fmt.Errorf("create job for %s: %w", symbol, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, poll+"/prices/poll", bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("create job for %s: %w", symbol, err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", "demo-"+symbol)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("create job for %s: %w", symbol, err)
	}
	_ = resp.Body.Close() // the body is not used
	if resp.StatusCode != http.StatusAccepted {
		return fmt.Errorf("create job for %s: status %d", symbol, resp.StatusCode)
	}
	return nil
}
