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
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"marketdata/functions/compute-ma/internal/store"
	"marketdata/shared/deadletter"
	"marketdata/shared/kafkaclient"
	"marketdata/shared/postgres"
	"marketdata/shared/priceevent"
	"marketdata/shared/service"
	"marketdata/shared/testenv"
	"marketdata/shared/testenv/wire"
)

const (
	rounds    = 9 // of each program, in turn; the figures are medians
	roundTime = 700 * time.Millisecond
	serveAs   = "COMPUTE_MA_BENCHMARK_SERVES" // makes the test binary one of the two limits instead of a test
)

// TestMain lets the test binary be the programs that the built one is measured against.
func TestMain(m *testing.M) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	var err error
	switch os.Getenv(serveAs) { //nolint:forbidigo // the benchmark's own switch, in no production code
	case "no-op":
		err = serveNoOp(ctx)
	case "insert-only":
		err = serveInsertOnly(ctx)
	default:
		os.Exit(m.Run()) //nolint:gocritic // stop only undoes the signal handler
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// serveNoOp is what HTTP alone costs: a handler that reads the event and answers.
func serveNoOp(ctx context.Context) error {
	server := &http.Server{Addr: "127.0.0.1:" + os.Getenv("PORT"), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { //nolint:forbidigo // as above
		if r.Method == http.MethodPost {
			_, _ = io.Copy(io.Discard, r.Body)
		}
		w.WriteHeader(http.StatusNoContent)
	})}
	go func() { <-ctx.Done(); _ = server.Close() }()
	if err := server.ListenAndServe(); ctx.Err() == nil {
		return err
	}
	return nil
}

// serveInsertOnly is the program without the averages: same ingress, same coalescer, the points in one round trip.
func serveInsertOnly(ctx context.Context) error {
	cfg, err := loadConfig()
	if err != nil {
		return err
	}
	log := service.NewLogger("compute-ma", cfg.LogLevel)
	pool, err := postgres.Open(ctx, string(cfg.Backing.DatabaseURL))
	if err != nil {
		return err
	}
	defer pool.Close()
	producer := kafkaclient.NewProducer(cfg.Backing.Kafka, log)
	defer producer.Close(cfg.ShutdownTimeout)
	srv := service.New(cfg.Config, log)
	m := newMetrics(srv.Metrics)
	points := insertOnly{store.New(pool, cfg.Windows), pool}
	events := store.NewBatcher(points, m.batch)
	defer events.Close()
	(&receiver{
		events: events, rehearsals: points, maxBytes: cfg.MaxEventBytes, log: log, now: time.Now, metrics: m,
		deadLetters: deadletter.Writer{Producer: producer, Topic: cfg.Backing.Topics.DeadLetters},
	}).routes(srv.Mux)
	listener, err := service.Listen(ctx, cfg.Config, service.Seats)
	if err != nil {
		return err
	}
	return srv.Run(ctx, listener)
}

type insertOnly struct {
	*store.Store
	pool *pgxpool.Pool
}

func (s insertOnly) Apply(ctx context.Context, all []priceevent.Observation) ([]store.Effect, error) {
	n := len(all)
	symbols, providers, prices := make([]string, n), make([]string, n), make([]string, n)
	times, ids := make([]time.Time, n), make([]pgtype.UUID, n)
	for i, o := range all {
		symbols[i], providers[i], prices[i], times[i] = string(o.Symbol), o.Provider, o.Price.String(), o.ObservedAt
		ids[i] = pgtype.UUID{Bytes: o.RawResponseID, Valid: true}
	}
	_, err := s.pool.Exec(ctx, `
		insert into price_points (symbol, provider, observed_at, price, raw_response_id)
		select * from unnest($1::text[], $2::text[], $3::timestamptz[], $4::text[]::numeric[], $5::uuid[])
		on conflict do nothing`, symbols, providers, times, prices, ids)
	return make([]store.Effect, n), err
}

func post(url string, symbols int, tick int64) []byte {
	symbol := "S" + strconv.Itoa(rand.IntN(symbols))
	at := time.UnixMicro(1_700_000_000_000_000 + tick*1000).UTC().Format(time.RFC3339Nano)
	id := uuid.UUID{6: 0x70, 8: 0x80, 12: byte(tick >> 24), 13: byte(tick >> 16), 14: byte(tick >> 8), 15: byte(tick)}.String()
	body := `{"symbol":"` + symbol + `","price":` + strconv.Itoa(100+int(tick%50)) + `.25,"timestamp":"` + at + `","source":"yfinance","raw_response_id":"` + id + `"}`
	// As a KafkaSource delivers: design.md section 5.
	return wire.Request(http.MethodPost, url, []byte(body), "Ce-Specversion: 1.0", "Ce-Id: "+id+":"+symbol, "Ce-Source: /providers/yfinance",
		"Ce-Type: "+priceevent.Type, "Ce-Subject: "+symbol, "Ce-Partitionkey: "+symbol, "Ce-Time: "+at, "Content-Type: application/json",
		"Ce-Kafkatopic: price-events", "Ce-Knativekafkapartition: 3", "Ce-Knativekafkaoffset: "+strconv.FormatInt(tick, 10))
}

// BenchmarkThroughput measures the built binary, logs going to a file, against Postgres with its default durability,
// beside the two limits: a no-op POST handler and the program without the averages. One axis at a time around 50 events in
// flight, 100 symbols, empty table; BENCH_LARGE=1 adds a table of 10 million points.
func BenchmarkThroughput(b *testing.B) {
	type setting struct{ inFlight, symbols, stored int }
	settings := []setting{{50, 100, 0}, {1, 100, 0}, {4, 100, 0}, {12, 100, 0}, {200, 100, 0}, {50, 5, 0}, {50, 5000, 0}}
	if os.Getenv("BENCH_LARGE") != "" { //nolint:forbidigo // the benchmark's own
		settings = append(settings, setting{50, 100, 10_000_000})
	}
	for _, s := range settings {
		b.Run(fmt.Sprintf("%d_in_flight/%d_symbols/%d_points", s.inFlight, s.symbols, s.stored), func(b *testing.B) {
			for range b.N {
				compare(b, s.inFlight, s.symbols, s.stored)
			}
		})
	}
}

func compare(b *testing.B, inFlight, symbols, stored int) {
	b.Helper()
	bin := os.Getenv("E2E_BIN_DIR") //nolint:forbidigo // where 'make bench' has put the binaries
	require.NotEmpty(b, bin, "E2E_BIN_DIR is not set: run 'make bench', which builds the binaries first")
	brokers := testenv.Kafka(b)
	topics := testenv.Topics(b, brokers)
	environ := func(stored int) []string {
		url := testenv.PostgresURL(b)
		if stored > 0 {
			fill(b, url, symbols, stored)
		}
		return append(append(brokers.Environ(), topics.Environ()...), "DATABASE_URL="+url)
	}
	noOp := testenv.StartProgram(b, "no-op", os.Args[0], serveAs+"=no-op")
	insert := testenv.StartProgram(b, "insert-only", os.Args[0], append(environ(0), serveAs+"=insert-only")...)
	programs := []*testenv.Program{noOp, insert, testenv.StartProgram(b, "compute-ma", filepath.Join(bin, "compute-ma"), environ(0)...)}
	if stored > 0 {
		programs = append(programs, testenv.StartProgram(b, "large", filepath.Join(bin, "compute-ma"), environ(stored)...))
	}
	var clock atomic.Int64
	for round := range rounds + 1 {
		for _, p := range programs {
			p.Load(b, inFlight, roundTime, func(int) []byte { return post(p.URL, symbols, clock.Add(1)) }, wire.Expect(http.StatusNoContent))
			if round == 0 { // a warm-up: connections, prepared statements, the series' first rows
				p.Forget()
			}
		}
	}
	ma := programs[2]
	b.ReportMetric(testenv.Median(ma.Rates), "events/s")
	b.ReportMetric(testenv.Ratio(ma, noOp), "of_no-op")
	b.ReportMetric(testenv.Ratio(ma, insert), "of_insert-only")
	b.ReportMetric(testenv.Ratio(insert, noOp), "insert-only_of_no-op")
	b.ReportMetric(testenv.Median(ma.Medians), "p50_ms")
	b.ReportMetric(testenv.Median(ma.Tails)/testenv.Median(ma.Medians), "p99/p50")
	if stored > 0 {
		b.ReportMetric(testenv.Ratio(programs[3], ma), "large_of_empty")
	}
	b.ReportMetric(0, "ns/op")
}

// fill stores points of the years before those of the load, and their series' rows as they would be.
func fill(b *testing.B, url string, symbols, points int) {
	b.Helper()
	pool, err := postgres.Open(b.Context(), url)
	require.NoError(b, err)
	defer pool.Close()
	for _, q := range []string{
		fmt.Sprintf(`insert into price_points (symbol, provider, observed_at, price, raw_response_id)
			select 'S' || i %% %d, 'yfinance', timestamptz '2015-01-01Z' + make_interval(secs => i), 100 + i %% 50, gen_random_uuid()
			from generate_series(0, %d) i`, symbols, points-1),
		"checkpoint",
	} {
		_, err := pool.Exec(b.Context(), q)
		require.NoError(b, err)
	}
}
