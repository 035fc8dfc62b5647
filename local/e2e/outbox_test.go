//go:build integration

package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// The outbox with a crash at every step between fetch and acknowledgement. Faults come from outside: signals, table locks, and a
// broker that the test controls. At the end each stored price must have been published, and count once.
func TestOutbox(t *testing.T) {
	t.Parallel()
	o := &outbox{broker: newBroker(t)}
	o.stack = start(t, newDir(t), "KAFKA_BOOTSTRAP_SERVERS="+o.addr(), "COPIES=poll=2", "CACHE_TTL=1s", "PROVIDER_TIMEOUT=1s", "RATE_LIMIT_LATEST=10000/10ms")
	o.getLatest, o.polls = o.env["GET_LATEST_URL"], strings.Split(o.env["POLL_URLS"], ",")

	for _, step := range []struct {
		name string
		run  func(t *testing.T)
	}{
		{"killed before anything is stored", func(t *testing.T) { t.Helper(); o.killedWhileStoring(t, "raw_responses", "AAPL") }},
		{"killed between the two rows", func(t *testing.T) { t.Helper(); o.killedWhileStoring(t, "outbox", "MSFT") }},
		{"killed before the acknowledgement", o.killedBeforeAck},
		{"killed before the row is deleted", o.killedBeforeDelete},
		{"a sweeper killed before the acknowledgement", o.sweeperKilledBeforeAck},
		{"a sweeper killed before the row is deleted", o.sweeperKilledBeforeDelete},
		{"rows that the broker refuses forever, and concurrent sweepers", o.badRowsAndBulk},
		{"broker down for a minute", o.brokerAway},
		{"all prices are published and count once", o.countsEveryPrice},
	} {
		if !t.Run(step.name, step.run) {
			return
		}
	}
}

type outbox struct {
	*stack
	*broker
	getLatest string
	polls     []string
}

// ask sends a request without waiting for its response, which may never come.
func (o *outbox) ask(symbol string) {
	go func() {
		req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, o.getLatest+"/prices/latest?symbol="+symbol, nil)
		if err == nil {
			if resp, err := http.DefaultClient.Do(req); err == nil {
				_ = resp.Body.Close()
			}
		}
	}()
}

// lock locks a table against writers until the transaction ends.
func (o *outbox) lock(t *testing.T, table string) pgx.Tx {
	t.Helper()
	tx, err := o.pool.Begin(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = tx.Rollback(context.Background()) }) // after a failure: the lock would delay the stack's stop
	_, err = tx.Exec(t.Context(), "lock table "+table+" in share mode")
	require.NoError(t, err)
	return tx
}

// blocked waits until a statement that contains this text waits for a lock.
func (o *outbox) blocked(t *testing.T, statement string) {
	t.Helper()
	require.Eventually(t, func() bool {
		return len(o.rows(t, "select query from pg_stat_activity where wait_event_type = 'Lock' and query like $1", "%"+statement+"%")) > 0
	}, 20*time.Second, time.Millisecond)
}

func (o *outbox) killGetLatest(t *testing.T) {
	t.Helper()
	o.kill(t, "get-latest", o.getLatest)
}

func (o *outbox) count(t *testing.T, table string) (n int64) {
	t.Helper()
	require.NoError(t, o.pool.QueryRow(t.Context(), "select count(*) from "+table).Scan(&n))
	return n
}

// due makes all rows of the outbox due at once, instead of after ten seconds or a dead sweeper's lease.
func (o *outbox) due(t *testing.T) {
	t.Helper()
	_, err := o.pool.Exec(t.Context(), "update outbox set next_attempt_at = now()")
	require.NoError(t, err)
}

// killedWhileStoring and the steps after it each use a symbol of their own, because a killed replica holds the lock of its series
// until the lease expires.
func (o *outbox) killedWhileStoring(t *testing.T, table, symbol string) {
	t.Helper()
	tx := o.lock(t, table)
	o.ask(symbol)
	o.blocked(t, "insert into "+table)
	o.killGetLatest(t)
	require.NoError(t, tx.Rollback(t.Context()))
	o.eventually(t, nil, "select query from pg_stat_activity where query like '%insert into "+table+"%' and state <> 'idle' and pid <> pg_backend_pid()")
	require.Zero(t, o.count(t, "raw_responses"), "both rows or none")
	require.Zero(t, o.count(t, "outbox"))
	require.Zero(t, o.length(o.topics().Events), "a price that is not stored is not published")
	ready(t, o.getLatest)
}

func (o *outbox) killedBeforeAck(t *testing.T) {
	t.Helper()
	produced, stop := o.swallow()
	o.ask("IBM")
	<-produced
	o.killGetLatest(t)
	stop()
	require.EqualValues(t, 1, o.count(t, "raw_responses"))
	require.EqualValues(t, 1, o.count(t, "outbox"))
	require.Zero(t, o.length(o.topics().Events))
	ready(t, o.getLatest)
	// Without help: the row is due after ten seconds, and a tick comes within five more.
	o.eventually(t, []string{"0"}, "select count(*)::text from outbox")
	require.EqualValues(t, 1, o.length(o.topics().Events))
}

func (o *outbox) killedBeforeDelete(t *testing.T) {
	t.Helper()
	produced, goOn := o.delay()
	o.ask("GOOG")
	<-produced
	tx := o.lock(t, "outbox")
	goOn()
	o.blocked(t, "delete from outbox")
	o.killGetLatest(t)
	require.NoError(t, tx.Rollback(t.Context()))
	require.EqualValues(t, 2, o.length(o.topics().Events), "the event is published")
	require.EqualValues(t, 1, o.count(t, "outbox"), "but its row is not deleted")
	ready(t, o.getLatest)
	o.due(t)
	o.eventually(t, []string{"0"}, "select count(*)::text from outbox")
	require.EqualValues(t, 3, o.length(o.topics().Events), "so the event is published again")
}

func (o *outbox) sweeperKilledBeforeAck(t *testing.T) {
	t.Helper()
	produced, stop := o.swallow()
	status, _, _ := call(t, http.MethodGet, o.getLatest+"/prices/latest?symbol=AAPL", "")
	require.Equal(t, http.StatusOK, status, "a silent broker delays a price by at most a second")
	<-produced
	o.due(t)
	o.eventually(t, []string{"1"}, "select attempts::text from outbox")
	<-produced
	o.kill(t, "poll", o.polls...)
	stop()
	ready(t, o.polls...)
	o.eventually(t, []string{"0"}, "select count(*)::text from outbox") // after the dead sweeper's lease
}

func (o *outbox) sweeperKilledBeforeDelete(t *testing.T) {
	t.Helper()
	o.leave(t, "AMZN")
	before := o.length(o.topics().Events)
	produced, goOn := o.delay()
	o.due(t)
	<-produced
	tx := o.lock(t, "outbox")
	goOn()
	o.blocked(t, "delete from outbox")
	o.kill(t, "poll", o.polls...)
	require.NoError(t, tx.Rollback(t.Context()))
	require.Greater(t, o.length(o.topics().Events), before)
	ready(t, o.polls...)
	o.due(t)
	o.eventually(t, []string{"0"}, "select count(*)::text from outbox")
}

// leave stores a price whose event stays in the outbox, because the process that should publish it is killed.
func (o *outbox) leave(t *testing.T, symbol string) {
	t.Helper()
	// Start with a new process: the old one's producer may still wait for the response to a dropped request, and would delay the
	// next one until its row is due.
	o.killGetLatest(t)
	ready(t, o.getLatest)
	produced, stop := o.swallow()
	o.ask(symbol)
	<-produced
	o.killGetLatest(t)
	stop()
	ready(t, o.getLatest)
	require.EqualValues(t, 1, o.count(t, "outbox"))
}

const bulk = 600

// badRowsAndBulk inserts rows that the broker never accepts, then good ones, and sends ticks to all replicas at once.
func (o *outbox) badRowsAndBulk(t *testing.T) {
	t.Helper()
	_, err := o.pool.Exec(t.Context(), `
		insert into outbox (topic, key, value, headers)
		select $1::text, 'HUGE'::bytea, repeat('x', 3000000)::bytea, '{}' from generate_series(1, 3)`, o.topics().Events)
	require.NoError(t, err)
	_, err = o.pool.Exec(t.Context(), `
		insert into outbox (topic, key, value, headers)
		select $1::text, 'BULK'::bytea, convert_to(json_build_object('symbol', 'BULK', 'price', i, 'source', 'bulk',
			'timestamp', to_char('2024-01-01'::timestamp + i * interval '1 second', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
			'raw_response_id', gen_random_uuid())::text, 'UTF8'), '{}'
		from generate_series(1, $2::int) i`, o.topics().Events, bulk)
	require.NoError(t, err)
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			_, _, _ = call(t, http.MethodPost, o.polls[i%len(o.polls)]+"/", "{}", "Content-Type", "application/json",
				"Ce-Specversion", "1.0", "Ce-Id", fmt.Sprint("tick-", i), "Ce-Source", "/test", "Ce-Type", "dev.knative.sources.ping")
		})
	}
	wg.Wait()
	o.eventually(t, []string{"HUGE", "HUGE", "HUGE"}, "select convert_from(key, 'UTF8') from outbox")
	o.eventually(t, []string{fmt.Sprint(bulk)}, "select count(*)::text from price_points where provider = 'bulk'")
	o.eventually(t, []string{"3"}, "select count(*)::text from outbox where attempts > 1") // retried, never dropped
}

// brokerAway stops the broker for a minute: rows become due, sweeps fail, back-off reaches its maximum, and records in the producers'
// queues time out.
func (o *outbox) brokerAway(t *testing.T) {
	t.Helper()
	o.cluster.Close()
	away := time.After(time.Minute)
	again := time.NewTicker(time.Second)
	defer again.Stop()
	stored := o.count(t, "raw_responses")
	for gone := false; !gone; {
		select {
		case <-away:
			gone = true
		case <-again.C:
			status, body, _ := call(t, http.MethodGet, o.getLatest+"/prices/latest?symbol=AAPL", "")
			require.Equal(t, http.StatusOK, status, "%s", body)
		}
	}
	require.Greater(t, o.count(t, "raw_responses"), stored+15)
	require.Greater(t, o.count(t, "outbox"), int64(3+15))
	o.eventually(t, []string{"true"}, "select (count(*) > 0)::text from outbox where attempts > 0 and key <> 'HUGE'")
	o.start(t)
	o.eventually(t, []string{"3"}, "select count(*)::text from outbox")
}
