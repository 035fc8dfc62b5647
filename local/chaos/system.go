package chaos

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"marketdata/local/console"
	"marketdata/local/exchange"
	"marketdata/local/process"
	"marketdata/local/services"
	"marketdata/local/supervisor"
	"marketdata/shared/freeport"
	"marketdata/shared/kafkaclient"
	"marketdata/shared/postgres/migrate"
	"marketdata/shared/postgres/roles"
	"marketdata/shared/priceevent"
)

// system is the whole system as separate processes. Functions reach Postgres and Redis, and the sources, the gateway and the inspector
// reach functions, through proxies. The broker has none: it tells its clients an address of its own.
type system struct {
	dir, bin string
	out      *console.Console
	restarts atomic.Int64

	market   *market
	links    map[string]*proxy // "postgres", "redis" and the functions
	programs map[string]*process.Process
	urls     map[string]string // of each replica
	gateway  string            // URL
	broker   string            // address
	admin    string            // URL of the broker's faults
	token    string

	redis    *redis.Client // not through the proxy
	postgres *postgres
	stops    []func()

	mu     sync.Mutex
	starts map[string][]time.Time // of each replica
}

func (s *system) onStop(f func()) { s.stops = append(s.stops, f) }

// stop ends everything, in the reverse order of its start.
func (s *system) stop() {
	for i := len(s.stops) - 1; i >= 0; i-- {
		s.stops[i]()
	}
}

// start starts a system with its data in dir. withStandby says whether Postgres has a standby.
func start(ctx context.Context, dir, bin string, seed uint64, withStandby bool) (s *system, err error) {
	log, err := os.OpenFile(filepath.Join(dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600) //nolint:gosec // our own file
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	s = &system{
		dir: dir, bin: bin, out: console.New(log), market: newMarket(seed), token: "chaos-no-secret",
		links: map[string]*proxy{}, programs: map[string]*process.Process{}, urls: map[string]string{}, starts: map[string][]time.Time{},
	}
	s.onStop(func() { _ = log.Close() })
	defer func() {
		if err != nil {
			s.stop()
		}
	}()
	if err := s.startBroker(ctx); err != nil {
		return nil, err
	}
	backing, err := s.startServices(ctx, withStandby)
	if err != nil {
		return nil, err
	}
	market, err := s.serveMarket(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.startFunctions(ctx, backing, market); err != nil {
		return nil, err
	}
	if err := s.startOthers(ctx, backing); err != nil {
		return nil, err
	}
	return s, s.ready(ctx)
}

// run keeps a program of ours running. env is all that it gets.
func (s *system) run(name, dir string, env []string, program string, args ...string) error {
	log := s.out.Log(name)
	p, err := process.Start(process.Options{
		Name: name,
		Command: func() *exec.Cmd {
			cmd := exec.Command(filepath.Join(s.bin, program), args...) //nolint:gosec,noctx // our own build; ended by Stop
			cmd.Dir = dir                                               // where no .env is
			cmd.Env = env
			cmd.Stdout, cmd.Stderr = log, log
			return cmd
		},
		StopSignal: syscall.SIGTERM, StopWait: 10 * time.Second, Orphan: syscall.SIGKILL, Say: s.say(name),
	})
	if err != nil {
		return err
	}
	s.programs[name] = p
	s.onStop(func() { p.Stop(context.Background()) })
	return nil
}

// ownEnviron is what programs take over from our own environment: nothing that could lead them to another system.
func ownEnviron() (env []string) {
	for _, line := range os.Environ() {
		switch name, _, _ := strings.Cut(line, "="); name {
		case "PATH", "HOME", "TMPDIR", "LANG":
			env = append(env, line)
		}
	}
	return env
}

// say notes that a program has ended and starts again.
func (s *system) say(name string) func(string) {
	return func(text string) {
		if strings.Contains(text, "restarting") {
			s.restarts.Add(1)
			s.mu.Lock()
			s.starts[name] = append(s.starts[name], time.Now())
			s.mu.Unlock()
		}
		s.out.Say(text)
	}
}

func (s *system) startBroker(ctx context.Context) error {
	addr, err := freeAddr(ctx)
	if err != nil {
		return err
	}
	admin, err := freeAddr(ctx)
	if err != nil {
		return err
	}
	s.broker, s.admin = addr, "http://"+admin
	if err := s.run("broker", s.dir, ownEnviron(), "local", "chaos", "-broker", addr, "-admin", admin, "-dir", filepath.Join(s.dir, "kafka")); err != nil {
		return err
	}
	if err := listens(ctx, addr); err != nil {
		return fmt.Errorf("the broker does not listen: %w", err)
	}
	return services.CreateTopics(ctx, kafkaclient.At(addr), priceevent.DefaultTopics)
}

// listens returns once somebody listens on an address.
func listens(ctx context.Context, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		if err == nil {
			return conn.Close()
		}
		if !pause(ctx, 20*time.Millisecond) {
			return err
		}
	}
}

// freeAddr returns a loopback address with a free port.
func freeAddr(ctx context.Context) (string, error) {
	port, err := freeport.Find(ctx)
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), err
}

// startServices starts Redis and Postgres, and returns their addresses behind proxies.
func (s *system) startServices(ctx context.Context, withStandby bool) (services.Addresses, error) {
	given := services.Addresses{DatabaseURL: "given", Kafka: kafkaclient.At(s.broker)}
	a, stop, err := services.Start(ctx, services.Options{Dir: s.dir, Say: s.say("redis"), Addresses: given})
	if err != nil {
		return a, err
	}
	s.onStop(func() { stop(context.Background()) })
	options, err := redis.ParseURL(a.RedisURL)
	if err != nil {
		return a, fmt.Errorf("parse URL of redis: %w", err)
	}
	s.redis = redis.NewClient(options)
	s.onStop(func() { _ = s.redis.Close() })
	if _, err := s.redisPID(ctx); err != nil {
		return a, errors.New("chaos needs redis-server: an emulated one cannot be killed")
	}
	s.postgres = &postgres{system: s}
	a, err = s.postgres.start(ctx, services.Addresses{RedisURL: a.RedisURL, Kafka: given.Kafka})
	if err != nil {
		return a, err
	}
	if withStandby {
		if err := s.postgres.addStandby(ctx); err != nil {
			return a, err
		}
	}
	urls := []*string{&a.DatabaseURL, &a.RedisURL}
	for i, name := range []string{"postgres", "redis"} {
		if *urls[i], err = s.behindProxy(ctx, name, *urls[i]); err != nil {
			return a, err
		}
	}
	for function, text := range a.Users {
		u, err := url.Parse(text)
		if err != nil {
			return a, fmt.Errorf("parse our own URL: %w", err)
		}
		u.Host = s.links["postgres"].addr
		a.Users[function] = u.String()
	}
	return a, nil
}

func (s *system) behindProxy(ctx context.Context, name, text string) (string, error) {
	u, err := url.Parse(text)
	if err != nil {
		return "", fmt.Errorf("parse our own URL: %w", err)
	}
	p, err := newProxy(ctx, u.Host)
	if err != nil {
		return "", err
	}
	s.links[name] = p
	s.onStop(p.close)
	u.Host = p.addr
	return u.String(), nil
}

// prepareDatabase migrates the schema, and makes the users of the functions.
func prepareDatabase(ctx context.Context, a services.Addresses) error {
	if err := migrate.Up(ctx, a.DatabaseURL); err != nil {
		return fmt.Errorf("migrate the schema: %w", err)
	}
	if _, err := roles.Grant(ctx, a.DatabaseURL); err != nil {
		return fmt.Errorf("roles of the functions: %w", err)
	}
	for function, url := range a.Users {
		if err := roles.Login(ctx, a.DatabaseURL, function, url); err != nil {
			return err
		}
	}
	return nil
}

func (s *system) serveMarket(ctx context.Context) (url string, err error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("exchange: %w", err)
	}
	server := &http.Server{Handler: s.market, ReadHeaderTimeout: time.Second}
	go func() { _ = server.Serve(l) }() // ends with Close
	s.onStop(func() { _ = server.Close() })
	return "http://" + l.Addr().String(), nil
}

// Limits that the load reaches.
const (
	finnhubBudget = 20 // a minute
	twelveBudget  = 8  // a minute
	clientLimit   = 5  // a minute: RATE_LIMIT_LATEST
	maxCopies     = 4  // MAX_COPIES
)

func (s *system) startFunctions(ctx context.Context, backing services.Addresses, market string) error {
	// With the 50 ms of RATE_LIMIT_TIMEOUT a replica that gets no processor for a while would decide alone without a fault of Redis.
	env := append(ownEnviron(), "RATE_LIMIT_TIMEOUT=500ms", "DLQ_TOKEN="+s.token, fmt.Sprint("MAX_COPIES=", maxCopies), fmt.Sprint("RATE_LIMIT_LATEST=", clientLimit, "/1m"),
		fmt.Sprint("FINNHUB_BUDGET=", finnhubBudget, "/1m"), fmt.Sprint("TWELVE_DATA_BUDGET=", twelveBudget, "/1m"),
		"YFINANCE_BUDGET=off", "BINANCE_BUDGET=off", "COINBASE_BUDGET=off", "ALPHA_VANTAGE_BUDGET=off")
	env = append(env, backing.Environ()...)
	for _, p := range exchange.Providers() {
		variable := strings.ToUpper(p.Name)
		env = append(env, variable+"_BASE_URL="+market+"/"+p.Name)
		if p.NeedsKey {
			env = append(env, variable+"_API_KEY=any")
		}
	}
	for _, function := range functions { // compute-ma is the first: dlq-inspector gets its address
		var addrs []string
		for n := range replicas {
			name := replicaName(function, n+1)
			port, err := freeport.Find(ctx)
			if err != nil {
				return err
			}
			own := []string{"HOST=127.0.0.1", fmt.Sprint("PORT=", port), "K_SERVICE=" + function, "DATABASE_URL=" + backing.Database(function)}
			if err := s.run(name, s.dir, slices.Concat(env, own), function); err != nil {
				return err
			}
			addrs = append(addrs, net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
			s.urls[name] = "http://" + addrs[n]
		}
		p, err := newProxy(ctx, addrs...)
		if err != nil {
			return err
		}
		s.links[function] = p
		s.onStop(p.close)
		env = append(env, supervisor.Variable(function)+"=http://"+p.addr)
	}
	return nil
}

// startOthers starts the event sources and the gateway.
func (s *system) startOthers(ctx context.Context, backing services.Addresses) error {
	manifests, err := filepath.Abs("knative")
	if err != nil {
		return fmt.Errorf("manifests: %w", err)
	}
	gateway, err := freeAddr(ctx)
	if err != nil {
		return err
	}
	s.gateway = "http://" + gateway
	env := append(append(ownEnviron(), backing.Environ()...), "KNATIVE_DIR="+manifests, "DEMO=0", "DLQ_TOKEN="+s.token, "GATEWAY_ADDR="+gateway)
	for _, function := range functions {
		env = append(env, supervisor.Variable(function)+"=http://"+s.links[function].addr)
	}
	for _, name := range []string{"sources", "gateway"} {
		dir := filepath.Join(s.dir, name)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("create data folder: %w", err)
		}
		if err := s.run(name, dir, slices.Concat(env, []string{"LOCAL_DIR=" + dir}), "local", "-only="+name); err != nil {
			return err
		}
	}
	return nil
}

// ready returns once every replica, the sources and the gateway are ready.
func (s *system) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	all := map[string][]string{}
	for name, u := range s.urls {
		all[name] = []string{u}
	}
	if err := supervisor.Ready(ctx, all); err != nil {
		return fmt.Errorf("%w: %s", err, filepath.Join(s.dir, "log"))
	}
	for _, name := range []string{"sources", "gateway"} {
		for {
			if _, err := os.Stat(filepath.Join(s.dir, name, "env")); err == nil {
				break
			}
			if !pause(ctx, 50*time.Millisecond) {
				return fmt.Errorf("%s is not ready: see %s", name, filepath.Join(s.dir, "log"))
			}
		}
	}
	return nil
}

// pause waits, and reports false if ctx ends before.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
