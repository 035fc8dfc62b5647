// Dlq-inspector keeps dead letters and replays them.
//
// It receives every record of the dead letter topic as a CloudEvent (POST /), reads the record and its original from Kafka, and stores
// the letter byte for byte. Operators list letters under /dlq, replay them to the function that refused them, and discard them.
// Delivery: the same dead letter record again changes nothing; a delivery that cannot be read is stored as it is; if Kafka or Postgres
// is unavailable, the answer is 503 and the letter is redelivered.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"marketdata/functions/dlq-inspector/internal/intake"
	"marketdata/functions/dlq-inspector/internal/operators"
	"marketdata/functions/dlq-inspector/internal/replay"
	"marketdata/functions/dlq-inspector/internal/store"
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
	service.LimitMemory() // a flood of letters leaves much garbage and little live memory
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
	letters := store.New(pool)
	metrics := replay.NewMetrics(srv.Metrics)
	replayer := replay.New(replay.Config{
		Store: letters, Function: cfg.ComputeMAURL, Client: replay.NewClient(), Topics: []string{priceevent.Topic}, Producer: producer,
		MaxReplays: cfg.MaxReplays, Now: time.Now,
	})
	bulks := replay.NewRunner(letters, replayer, log, metrics, srv.Stopping())
	defer bulks.Wait(cfg.ShutdownTimeout) // letters in flight are settled before the pool closes
	in := intake.New(intake.Config{
		Store: letters, Records: reader, Topic: priceevent.DeadLetterTopic, Topics: []string{priceevent.Topic, priceevent.DeadLetterTopic}, Now: time.Now,
	})
	defer in.Close()
	(&receiver{intake: in, upkeep: letters, bulks: bulks, received: srv.Metrics.NewCounter("dead_letters_received_total")}).routes(srv.Mux)
	pages(srv.Mux)
	routes := api.New(srv, "dlq-inspector", "Dead letters: see, replay, discard.")
	operators.New(operators.Config{
		Store: letters, Replayer: replayer, Bulks: bulks, Access: operators.NewAccess(string(cfg.Tokens), string(cfg.Token)), Metrics: metrics, Log: log,
	}).Routes(routes, limiter.Middleware(ratelimit.Policy{Name: "default", Limit: cfg.Limits.Default, Guarded: true}))
	routes.Document(ratelimit.Document)
	return srv.Run(ctx, listener)
}
