// Dlq-inspector keeps dead letters and brings them back.
//
// It receives every record of the dead letter topic as a CloudEvent (POST /), reads the record itself and its original
// from Kafka, and stores the letter byte for byte. Operators see letters under /dlq, replay them to the function that
// refused them, and discard them. Delivery: the same dead letter record again changes nothing; what cannot be read is
// stored raw; only trouble that may pass is answered 503.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"marketdata/shared/api"
	"marketdata/shared/ingress"
	"marketdata/shared/kafkaclient"
	"marketdata/shared/postgres"
	"marketdata/shared/priceevent"
	"marketdata/shared/ratelimit"
	"marketdata/shared/redisclient"
	"marketdata/shared/service"
)

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "dlq-inspector:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	cfg, err := loadConfig()
	if err != nil {
		return err
	}
	listener, err := service.Listen(ctx, cfg.Config)
	if err != nil {
		return err
	}
	service.LimitMemory() // a flood of letters leaves garbage, not much that lives
	log := service.NewLogger("dlq-inspector", cfg.LogLevel)
	srv := service.New(cfg.Config, log)
	pool, err := postgres.Open(ctx, string(cfg.DatabaseURL))
	if err != nil {
		return err
	}
	defer srv.Close(pool.Close)
	reader := kafkaclient.NewReader(cfg.KafkaServers)
	defer srv.Close(reader.Close)
	producer := kafkaclient.NewProducer(cfg.KafkaServers)
	defer srv.Close(func() { producer.Close(srv.Left()) })
	client, err := redisclient.Open(string(cfg.RedisURL))
	if err != nil {
		return err
	}
	defer client.Close() //nolint:errcheck // nothing is buffered
	limiter := ratelimit.New(client, cfg.Limits, log)
	defer limiter.Close() //nolint:errcheck // nothing is buffered
	srv.Needs(service.Check{Name: "postgres", Ping: pool.Ping}, service.Check{Name: "kafka", Ping: reader.Check(priceevent.DeadLetterTopic)},
		service.Check{Name: "redis", Ping: limiter.Warm, Optional: true})
	srv.MaxHeaderBytes = ingress.MaxHeaderBytes
	limiter.Observe(srv.Metrics)
	store := &pgStore{pool: pool}
	replay := &replayer{
		store: store, target: cfg.ComputeMAURL, client: replayClient(), topics: []string{priceevent.Topic}, records: producer,
		maxReplays: cfg.MaxReplays, now: time.Now,
	}
	counts := newMetrics(srv.Metrics)
	bulks := newBulkRunner(store, replay, log, counts, srv.Stopping())
	defer bulks.wait(cfg.ShutdownTimeout) // what is under way is settled before the pool closes
	in := newIntake(store, reader, priceevent.DeadLetterTopic, []string{priceevent.Topic, priceevent.DeadLetterTopic}, time.Now)
	defer in.close()
	h := &handler{
		store:   store,
		intake:  in,
		replay:  replay,
		bulks:   bulks,
		access:  newAccess(string(cfg.Tokens), string(cfg.Token)),
		metrics: counts,
	}
	// The limit comes before the token: it counts guesses, too.
	routes := api.New(srv, "dlq-inspector", "Dead letters: see, replay, discard.")
	h.routes(srv.Mux, routes, limiter.Middleware(ratelimit.Policy{Name: "default", Limit: cfg.Limits.Default, Guarded: true}))
	routes.Document(ratelimit.Document)
	return srv.Run(ctx, listener)
}
