//go:build integration

package simulation_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"github.com/stretchr/testify/require"

	"marketdata/functions/poll/internal/backfill"
	"marketdata/functions/poll/internal/fetch"
	"marketdata/functions/poll/internal/jobs"
	"marketdata/functions/poll/internal/polltest"
	"marketdata/functions/poll/internal/schedule"
	"marketdata/functions/poll/internal/store"
	"marketdata/shared/ingest"
	"marketdata/shared/kafkaclient"
	"marketdata/shared/market"
	"marketdata/shared/market/alphavantage"
	"marketdata/shared/market/binance"
	"marketdata/shared/market/coinbase"
	"marketdata/shared/market/twelvedata"
	"marketdata/shared/market/upstream"
	"marketdata/shared/market/yfinance"
	"marketdata/shared/ratelimit"
	"marketdata/shared/ratelimit/budget"
)

var errDead = errors.New("the replica is dead")

// life is how many more reads and writes a replica makes on its connections, all together. Then it is dead: as after a kill, nothing of
// it reaches anybody any more, and whatever was under way may have happened or not.
type life struct{ left atomic.Int64 }

const immortal = 1 << 60

func (l *life) isDead() bool { return l.left.Load() <= 0 }

// mortal is a connection of a replica.
type mortal struct {
	net.Conn
	life *life
}

func (c mortal) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.life.left.Add(-1) <= 0 {
		_ = c.Close()
		return 0, errDead
	}
	return n, err
}

func (c mortal) Write(b []byte) (int, error) {
	if c.life.left.Add(-1) <= 0 {
		_ = c.Close()
		return 0, errDead
	}
	return c.Conn.Write(b)
}

// replica is a process of poll: what its main puts together, on connections that end with its life.
type replica struct {
	*schedule.Ticker
	life  life
	pool  *pgxpool.Pool
	store *store.Store
	end   func()
}

type dial = func(ctx context.Context, network, address string) (net.Conn, error)

func (r *replica) mortally(dial dial) dial {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		if r.life.isDead() {
			return nil, errDead
		}
		c, err := dial(ctx, network, address)
		return mortal{c, &r.life}, err
	}
}

func (w *world) newReplica() *replica {
	r := &replica{}
	r.life.left.Store(immortal)
	log := slog.New(slog.DiscardHandler)
	r.pool = w.newPool(r)
	pool := r.pool
	client := redis.NewClient(&redis.Options{
		Dialer: r.mortally(func(context.Context, string, string) (net.Conn, error) { return w.redis.Dial() }), MaxRetries: -1,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	limiter := ratelimit.New(client, ratelimit.Config{Timeout: time.Second, MaxCopies: 4}, log)
	var limits budget.Config
	limits.Load()
	set := metrics.NewSet()
	in := ingest.New(pool, publisher{w, r}, "price-events", w.adapters(r), log).Within(budget.New(limits, 4, limiter, pool, set))
	r.store = store.New(pool)
	histories := backfill.New(backfill.RunnerConfig{
		Store: r.store, Ingest: stoppable{in, w, r}, Log: w.log, Behind: func(int) {},
		Count: func(provider, outcome string, bars int) { w.note("%s answers: %s, %d bars", provider, outcome, bars) },
	})
	r.Ticker = schedule.New(schedule.Config{
		Store: r.store, Outbox: in, History: histories, Log: log, Recorded: func(int) {}, Swept: func(int) {},
		Fetcher: fetch.New(fetch.Config{
			Budget: in, Ingest: in, Cache: polltest.NoCache{}, Chain: market.Providers(), Log: log, Count: func(string, jobs.Outcome) {},
		}),
		Fresh: time.Minute, RawRetention: 720 * time.Hour, RunsRetention: 168 * time.Hour,
	})
	r.end = func() {
		histories.Wait()
		in.Close()
		_ = limiter.Close()
		_ = client.Close()
		pool.Close()
	}
	return r
}

// stoppable is the ingester of a replica whose process is sometimes stopped, and its timers with it, just before it stores new bars: until
// its lease has ended, and another replica has done what is due. One at a time.
type stoppable struct {
	*ingest.Ingester
	w *world
	r *replica
}

func (s stoppable) StoreBars(ctx context.Context, b ingest.Bars, progress func(context.Context, pgx.Tx) (uuid.UUID, error)) error {
	if len(b.Bars) > 0 && s.w.stopping.TryLock() {
		if s.w.stops(b) {
			ctx = context.WithoutCancel(ctx)
			s.w.note("a replica is stopped with bars of %s %s", b.Series, b.Symbol)
			time.Sleep(backfill.Lease + time.Second)
			s.w.split()
			others := slices.DeleteFunc(slices.Clone(s.w.replicas), func(r *replica) bool { return r == s.r })
			if err := others[0].Run(ctx); err != nil {
				s.w.note("a tick meanwhile fails: %v", err)
			}
			s.w.note("the replica goes on")
		}
		s.w.stopping.Unlock()
	}
	return s.Ingester.StoreBars(ctx, b, progress)
}

// newPool returns a pool whose sessions have the simulated time, and which keeps its connections, however much of that passes.
func (w *world) newPool(r *replica) *pgxpool.Pool {
	c, err := pgxpool.ParseConfig(w.stage.url)
	require.NoError(w.t, err)
	const forever = 10 * 365 * 24 * time.Hour
	c.MaxConns, c.MaxConnLifetime, c.MaxConnIdleTime, c.HealthCheckPeriod = 2, forever, forever, forever
	c.ConnConfig.DialFunc = r.mortally((&net.Dialer{}).DialContext)
	c.PrepareConn = func(ctx context.Context, conn *pgx.Conn) (bool, error) {
		const key = "simulated.time"
		now := time.Now().UTC().Format(time.RFC3339Nano)
		if conn.PgConn().CustomData()[key] == now {
			return true, nil
		}
		conn.PgConn().CustomData()[key] = now
		_, err := conn.Exec(ctx, "set "+key+" = '"+now+"'")
		return err == nil, nil
	}
	pool, err := pgxpool.NewWithConfig(context.WithoutCancel(w.t.Context()), c)
	require.NoError(w.t, err)
	return pool
}

// adapters returns the real ones, which call the exchange in memory.
func (w *world) adapters(r *replica) map[string]market.Provider {
	at := func(provider string) upstream.Config {
		return upstream.Config{
			BaseURL: "http://exchange/" + provider, Key: "any-key-will-do", Timeout: 5 * time.Second,
			Dial: r.mortally(func(context.Context, string, string) (net.Conn, error) { return w.listener.Dial(), nil }),
		}
	}
	all := map[string]market.Provider{}
	for _, p := range []market.Provider{
		yfinance.New(at(yfinance.Name)), alphavantage.New(at(alphavantage.Name), ""), twelvedata.New(at(twelvedata.Name)),
		binance.New(at(binance.Name)), coinbase.New(at(coinbase.Name)),
	} {
		all[p.Name()] = p
	}
	return all
}

// publisher is a replica's producer. The topic keeps what it acknowledged, and sometimes what it did not.
type publisher struct {
	w *world
	r *replica
}

func (p publisher) Produce(_ context.Context, record kafkaclient.Record) error {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	if p.r.life.left.Add(-1) <= 0 {
		return errDead
	}
	if p.w.brokerDown {
		return context.DeadlineExceeded
	}
	p.w.topic = append(p.w.topic, record)
	if time.Now().Before(p.w.calm) && p.w.races.IntN(100) == 0 {
		return context.DeadlineExceeded // the acknowledgement is lost
	}
	return nil
}
