// Dlq-inspector keeps dead letters and replays them.
//
// It receives every record of the dead letter topic as a CloudEvent (POST /), reads the record and its original from Kafka, and stores
// the letter byte for byte. Operators list letters under /dlq, replay them to the function that refused them, and discard them.
// Delivery: the same dead letter record again changes nothing; a delivery that cannot be read is stored as it is; if Kafka or Postgres
// is unavailable, the answer is 503 and the letter is redelivered.
package main

import (
	"context"
	"net"
	"os"
	"time"

	"github.com/google/uuid"

	"marketdata/functions/dlq-inspector/internal/intake"
	"marketdata/functions/dlq-inspector/internal/operators"
	"marketdata/functions/dlq-inspector/internal/replay"
	"marketdata/functions/dlq-inspector/internal/store"
	"marketdata/functions/dlq-inspector/internal/terminal"
	"marketdata/shared/api"
	"marketdata/shared/backing"
	"marketdata/shared/ingress"
	"marketdata/shared/kafkaclient"
	"marketdata/shared/metric"
	"marketdata/shared/ratelimit"
	"marketdata/shared/service"
)

// With arguments it is the operators' command line.
func main() {
	if len(os.Args) > 1 {
		os.Exit(terminal.Main(os.Args[1:]))
	}
	service.Main("dlq-inspector", run)
}

func run(ctx context.Context) error {
	cfg, err := loadConfig()
	if err != nil {
		return err
	}
	listener, err := service.Listen(ctx, cfg.Config, service.Seats)
	if err != nil {
		return err
	}
	log := service.NewLogger("dlq-inspector", cfg.LogLevel)
	service.LimitMemory(400, 44) // a bulk replay has 512 letters in flight: with 32 MiB a third of its time went into collecting
	srv := service.New(cfg.Config, log)
	defer srv.Trace("dlq-inspector")()
	clients, err := backing.Open(srv, cfg.Backing)
	if err != nil {
		return err
	}
	defer clients.Close()
	reader := kafkaclient.NewReader(cfg.Backing.Kafka, log)
	defer srv.Close(reader.Close)
	srv.Needs(service.Check{Name: "kafka", Ping: reader.Check(cfg.Backing.Topics.DeadLetters), Reports: true})
	srv.MaxHeaderBytes = ingress.MaxHeaderBytes

	letters := store.New(clients.Postgres.Pool())
	metrics := replay.NewMetrics(srv.Metrics)
	replayer := replay.New(replay.Config{
		Store: letters, Function: cfg.ComputeMAURL, Client: replay.NewClient(), Topics: []string{cfg.Backing.Topics.Events}, Producer: clients.Producer,
		MaxReplays: cfg.MaxReplays, Now: time.Now,
	})
	bulks := replay.NewRunner(holder(listener.Addr()), letters, replayer, log, metrics, srv.Stopping())
	defer bulks.Wait(cfg.ShutdownTimeout) // letters in flight are settled before the pool closes
	in := intake.New(intake.Config{
		Store: letters, Records: reader, Topic: cfg.Backing.Topics.DeadLetters, Topics: []string{cfg.Backing.Topics.Events, cfg.Backing.Topics.DeadLetters}, Now: time.Now,
	})
	defer in.Close()
	metric.Describe(help)
	(&receiver{
		intake: in, upkeep: letters, retention: cfg.Retention, bulks: bulks, received: srv.Metrics.NewCounter("marketdata_dead_letters_received_total"),
	}).routes(srv.Mux)
	pages(srv.Mux)
	routes := api.New(srv, "dlq-inspector", "Dead letters: see, replay, discard.")
	operators.New(operators.Config{
		Store: letters, Replayer: replayer, Bulks: bulks, Access: operators.NewAccess(string(cfg.Tokens), string(cfg.Token)), Metrics: metrics, Log: log,
	}).Routes(routes, clients.Limiter.Middleware(ratelimit.Policy{Name: "default", Limit: cfg.Backing.Limits.Default, Guarded: true}))
	routes.Document(ratelimit.Document)
	go bulks.Resume(ctx)
	return srv.Run(ctx, listener)
}

// holder names this process for its leases. No other that lives has the same host (the name of its pod or container) and port, and one
// that is started again after a crash has them again.
func holder(address net.Addr) string {
	host, err := os.Hostname()
	if _, port, splitErr := net.SplitHostPort(address.String()); err == nil && splitErr == nil {
		return net.JoinHostPort(host, port)
	}
	return uuid.NewString()
}
