//go:build integration

package main

import (
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	vm "github.com/VictoriaMetrics/metrics"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"marketdata/functions/dlq-inspector/internal/intake"
	"marketdata/functions/dlq-inspector/internal/lettertest"
	"marketdata/functions/dlq-inspector/internal/operators"
	"marketdata/functions/dlq-inspector/internal/replay"
	"marketdata/functions/dlq-inspector/internal/store"
	"marketdata/shared/api"
	"marketdata/shared/kafkaclient"
	"marketdata/shared/service"
	"marketdata/shared/testenv"
)

const (
	retention    = 90 * 24 * time.Hour
	readersToken = "rita's"
)

// bundle is the whole function, with a target in place of compute-ma and topics of its own.
type bundle struct {
	brokers    kafkaclient.Config
	topic, dlq string
	producer   *kafkaclient.Producer
	pool       *pgxpool.Pool
	store      *store.Store
	target     *lettertest.Target
	intake     *intake.Intake
	replayer   *replay.Replayer
	bulks      *replay.Runner
	http       http.Handler
}

func setup(t *testing.T) bundle {
	t.Helper()
	return setupOn(t, testenv.Postgres(t))
}

// setupOn is setup with the connections of pool.
func setupOn(t *testing.T, pool *pgxpool.Pool) bundle {
	t.Helper()
	brokers, log := testenv.Kafka(t), slog.New(slog.DiscardHandler)
	b := bundle{
		brokers: brokers, topic: testenv.Topic(t, brokers, 1), dlq: testenv.Topic(t, brokers, 1), producer: kafkaclient.NewProducer(brokers, log),
		pool: pool, store: store.New(pool), target: lettertest.NewTarget(),
	}
	t.Cleanup(func() { b.producer.Close(time.Second) })
	records := kafkaclient.NewReader(brokers, log)
	t.Cleanup(records.Close)
	server := httptest.NewServer(b.target)
	t.Cleanup(server.Close)
	srv := service.New(service.Config{}, log)
	metrics := replay.NewMetrics(vm.NewSet())
	b.replayer = replay.New(replay.Config{
		Store: b.store, Function: server.URL, Client: server.Client(), Topics: []string{b.topic}, Producer: b.producer, MaxReplays: 2, Now: time.Now,
	})
	b.bulks = replay.NewRunner(uuid.NewString(), b.store, b.replayer, log, metrics, nil)
	t.Cleanup(func() { b.bulks.Wait(time.Minute) })
	b.intake = intake.New(intake.Config{Store: b.store, Records: records, Topic: b.dlq, Topics: []string{b.topic, b.dlq}, Now: time.Now})
	t.Cleanup(b.intake.Close)
	(&receiver{
		intake: b.intake, upkeep: b.store, retention: retention, bulks: b.bulks, received: vm.NewSet().NewCounter("received"),
	}).routes(srv.Mux)
	pages(srv.Mux)
	reader := sha256.Sum256([]byte(readersToken))
	access := operators.NewAccess("rita:"+hex.EncodeToString(reader[:])+":read", "secret")
	operators.New(operators.Config{
		Store: b.store, Replayer: b.replayer, Bulks: b.bulks, Access: access, Metrics: metrics, Log: log,
	}).Routes(api.New(srv, "dlq-inspector", ""), func(next http.Handler) http.Handler { return next })
	b.http = srv.Handler()
	return b
}
