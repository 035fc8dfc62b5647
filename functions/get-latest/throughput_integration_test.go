//go:build integration

package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"marketdata/shared/market"
	"marketdata/shared/pricecache"
	"marketdata/shared/ratelimit"
	"marketdata/shared/redisclient"
	"marketdata/shared/testenv"
	"marketdata/shared/testenv/wire"
)

const (
	rounds    = 9 // of each program, alternating; the figures are medians
	roundTime = 700 * time.Millisecond
	serveAs   = "GET_LATEST_BENCHMARK_SERVES" // makes the test binary serve the bare handler instead of running tests
	hitLimit  = "1000/1s"                     // high enough for the limiter to refuse none of hitClients
	hitSymbol = "BENCH.HIT"
)

// hitClients is the number of clients that share the load; X-Forwarded-For tells them apart.
const hitClients = 1000

// TestMain runs the tests or, if serveAs is set, the bare handler that get-latest is compared with.
func TestMain(m *testing.M) {
	if os.Getenv(serveAs) == "" { //nolint:forbidigo // a switch of the benchmark alone
		os.Exit(m.Run())
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	err := serveBare(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// serveBare does only what a hit cannot do without: net/http, and the same round trip to Redis (a script, a GET and a TIME). It has
// no clients, headers, metrics, logs or JSON.
func serveBare(ctx context.Context) error {
	client, err := redisclient.Open(os.Getenv("REDIS_URL")) //nolint:forbidigo // as above
	if err != nil {
		return err
	}
	var limit ratelimit.Limit
	if err := limit.UnmarshalText([]byte(hitLimit)); err != nil {
		return err
	}
	store := ratelimit.NewRedis(client, "bare:")
	server := &http.Server{Addr: "127.0.0.1:" + os.Getenv("PORT"), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { //nolint:forbidigo // as above
		var got *redis.StringCmd
		ride := func(p redis.Pipeliner) {
			got = p.Get(r.Context(), "price:yfinance:"+hitSymbol)
			p.Time(r.Context())
		}
		if _, err := store.TakeWith(r.Context(), ride, r.Header.Get("X-Forwarded-For"), limit); err != nil {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		_, _ = io.WriteString(w, got.Val())
	})}
	go func() { <-ctx.Done(); _ = server.Close() }()
	if err := server.ListenAndServe(); ctx.Err() == nil {
		return err
	}
	return nil
}

// BenchmarkHit measures the built binary's cache hits, with limiter, headers, metrics and logs to a file, compared with a bare
// handler that makes the same single round trip to Redis.
func BenchmarkHit(b *testing.B) {
	bin := os.Getenv("E2E_BIN_DIR") //nolint:forbidigo // where 'make bench' puts the binaries
	require.NotEmpty(b, bin, "E2E_BIN_DIR is not set: run 'make bench', which builds the binaries first")
	client, _ := testenv.Redis(b)
	price, err := market.ParsePrice("150.25")
	require.NoError(b, err)
	cache := pricecache.New(client, "price:", time.Hour, time.Hour)
	_, err = cache.Put(b.Context(), market.Quote{Symbol: hitSymbol, Provider: "yfinance", Price: price, ObservedAt: time.Now().UTC(), Currency: "USD"}, uuid.New())
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, client.Del(context.Background(), "price:yfinance:"+hitSymbol).Err()) })

	bare := testenv.StartProgram(b, "bare", os.Args[0], serveAs+"=bare")
	brokers := testenv.Kafka(b)
	hit := testenv.StartProgram(b, "get-latest", filepath.Join(bin, "get-latest"), append(append(brokers.Environ(), testenv.Topics(b, brokers).Environ()...),
		"DATABASE_URL="+testenv.PostgresURL(b), "CACHE_TTL=1h", "STALE_TTL=1h", "RATE_LIMIT_LATEST="+hitLimit, "RATE_LIMIT_TIMEOUT=1s")...)
	const callers = 50
	for range b.N {
		for round := range rounds + 1 {
			for _, p := range []*testenv.Program{bare, hit} {
				p.Load(b, callers, roundTime, func(int) []byte { return hitRequest(p.URL) }, isHit)
				if round == 0 {
					p.Forget()
				}
			}
		}
	}
	b.ReportMetric(testenv.Median(hit.Rates), "hits/s")
	b.ReportMetric(testenv.Ratio(hit, bare), "of_bare")
	b.ReportMetric(testenv.Median(hit.Medians), "p50_ms")
	b.ReportMetric(testenv.Median(hit.Tails)/testenv.Median(hit.Medians), "p99/p50")
	b.ReportMetric(0, "ns/op")
}

func hitRequest(base string) []byte {
	n := rand.IntN(hitClients)
	return wire.Request(http.MethodGet, base+"prices/latest?symbol="+hitSymbol+"&provider=yfinance", nil,
		"X-Forwarded-For: 10.0."+strconv.Itoa(n/250)+"."+strconv.Itoa(n%250))
}

func isHit(status int, cache string) error {
	if status != http.StatusOK || cache != "" && cache != "HIT" { // the bare handler sends no X-Cache
		return fmt.Errorf("status %d, X-Cache %q", status, cache)
	}
	return nil
}
