package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"time"

	"marketdata/local/exchange"
	"marketdata/local/services"
	"marketdata/local/supervisor"
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

// givenFunctions returns the addresses of functions that run elsewhere.
func givenFunctions() map[string][]string {
	urls := map[string][]string{}
	for _, name := range functionNames {
		if given := os.Getenv(supervisor.Variable(name)); given != "" { //nolint:forbidigo // one variable for each function, whose name is computed
			urls[name] = []string{given}
		}
	}
	return urls
}

// stackEnv returns the variables that reach a running stack.
func stackEnv(cfg config, gateway string, backing services.Addresses, token, exchangeURL string, functions map[string][]string) envFile {
	e := envFile{
		"LOCAL_STACK": cfg.Dir, "GATEWAY_URL": gateway, "DATABASE_URL": backing.DatabaseURL, "REDIS_URL": backing.RedisURL,
		"DLQ_TOKEN": token, "CONSUMER_GROUP_PREFIX": cfg.GroupPrefix,
	}
	for _, line := range append(backing.Kafka.Environ(), cfg.Topics.Environ()...) {
		name, value, _ := strings.Cut(line, "=")
		e[name] = value
	}
	if exchangeURL != "" {
		e["EXCHANGE_URL"] = exchangeURL
	}
	for name, list := range functions {
		variable := supervisor.Variable(name)
		e[variable], e[variable+"S"] = list[0], strings.Join(list, ",")
	}
	return e
}

// gatewayURL returns the gateway's URL: the configured host, with the port of the listener if the configured port is 0. gate may be
// nil.
func gatewayURL(addr string, gate net.Listener) string {
	host, port, err := net.SplitHostPort(addr)
	if err == nil && port == "0" && gate != nil {
		_, port, _ = net.SplitHostPort(gate.Addr().String())
	}
	if host == "" || host == "0.0.0.0" || host == "::" {
		host = "localhost"
	}
	return "http://" + net.JoinHostPort(host, port)
}

// dlqToken returns the operator token of the environment, or else one that is generated once for this folder.
func dlqToken(cfg config) (string, error) {
	if cfg.DLQToken != "" {
		return cfg.DLQToken, nil
	}
	token, err := services.KeptSecret(filepath.Join(cfg.Dir, "dlq-token"))
	if err != nil {
		return "", fmt.Errorf("dead letter token: %w", err)
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

// functionEnv returns the environment of the functions: our own, with the addresses of this stack. The exchange replaces the providers
// unless cfg says otherwise; "": there is none. A function sees no URL of the others.
func functionEnv(cfg config, backing services.Addresses, token, exchangeURL, tracesURL string) []string {
	own := append(slices.DeleteFunc(withoutKafka(os.Environ()), namesUser), withoutFiles...)
	addresses := append(backing.Environ(), "DLQ_TOKEN="+token)
	if tracesURL != "" {
		addresses = append(addresses, "OTEL_EXPORTER_OTLP_ENDPOINT="+tracesURL)
	}
	if exchangeURL == "" || cfg.Live {
		return append(own, addresses...)
	}
	// The last value of a variable counts: a budget that is set in the environment wins.
	return slices.Concat(budgetsOff(), own, addresses, exchangeEnv(own, exchangeURL))
}

// withoutKafka returns the variables that say nothing about Kafka: a setting of another broker must not mix with those of this one.
func withoutKafka(environ []string) []string {
	return slices.DeleteFunc(environ, func(line string) bool { return strings.HasPrefix(line, "KAFKA_") || strings.HasPrefix(line, "KAFKA=") })
}

// namesUser reports whether a line has the URL of one function's database user, or the name of a file with it.
func namesUser(line string) bool {
	name, _, _ := strings.Cut(line, "=")
	return strings.HasSuffix(strings.TrimSuffix(name, "_FILE"), "_DATABASE_URL")
}

// budgetsOff turns the providers' budgets off.
func budgetsOff() (env []string) {
	for _, p := range exchange.Providers() {
		env = append(env, strings.ToUpper(p.Name)+"_BUDGET=off")
	}
	return env
}

// banner says how to use a running stack.
func banner(say func(string), env envFile, envPath string, took time.Duration) {
	gate := env["GATEWAY_URL"]
	lines := []string{
		fmt.Sprintf("ready after %.1f s; Ctrl-C stops everything", took.Seconds()),
		"page       " + gate + "/        API " + gate + "/docs/",
		"variables  . " + envPath,
		"dead letter token " + env["DLQ_TOKEN"],
		"try        curl '" + gate + "/prices/latest?symbol=AAPL&provider=yfinance'",
		"try        curl '" + gate + "/averages/latest?symbol=AAPL&provider=yfinance&window=5'",
		`try        . ` + envPath + ` && psql "$DATABASE_URL" -c 'table symbol_averages'`,
	}
	for _, line := range lines {
		say(line)
	}
}
