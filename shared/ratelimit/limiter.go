package ratelimit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/redis/go-redis/v9"
)

// Limiter decides with Redis, within a time budget, and alone where that fails: by the same rule with the limits divided
// by the most copies there may be, so that all copies together admit about the limit. Safe for concurrent use.
//
// While Redis is known to be away one request at a time asks it whether it is back; the others are decided at once.
type Limiter struct {
	shared   *Redis
	local    *Memory
	config   Config
	log      *slog.Logger
	metrics  *metrics.Set
	decided  *metrics.Counter // decisions of this copy alone
	degraded atomic.Bool
	probe    sync.Mutex // held by the request that asks while Redis is away
}

var errAway = errors.New("redis is known to be away")

// New makes a limiter on the client, whose pool it shares. It does not connect.
func New(client *redis.Client, c Config, log *slog.Logger) *Limiter {
	l := &Limiter{
		shared: NewRedis(client.WithTimeout(c.Timeout), "limit:"), // the client's own timeouts must not undercut the limiter's
		local:  NewMemory(time.Now), config: c, log: log,
	}
	l.metrics = metrics.NewSet()
	l.decided = l.metrics.NewCounter("limiter_degraded_decisions_total")
	l.metrics.NewGauge("limiter_degraded", func() float64 {
		if l.degraded.Load() {
			return 1
		}
		return 0
	})
	return l
}

// Observe shows the limiter's metrics with those of set; call it once.
func (l *Limiter) Observe(set *metrics.Set) { set.RegisterMetricsWriter(l.metrics.WritePrometheus) }

// refusals counts requests refused for want of a slot.
func (l *Limiter) refusals(policy string) *metrics.Counter {
	return l.metrics.GetOrCreateCounter(fmt.Sprintf("limiter_refusals_total{policy=%q}", policy))
}

// warmTimeout is the readiness probe's patience with a Redis that does not answer.
const warmTimeout = 500 * time.Millisecond

// Warm opens the connection to Redis and loads the script: /readyz calls it, so that no request pays for either.
func (l *Limiter) Warm(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, warmTimeout)
	defer cancel()
	return l.shared.Load(ctx)
}

// Take decides one request of key, for which all limits must have room.
func (l *Limiter) Take(ctx context.Context, key string, limits ...Limit) Decision {
	d, err := l.ask(ctx, nil, key, limits)
	if err != nil {
		return l.alone(key, limits)
	}
	return d
}

// ask lets Redis decide, in one round trip with the commands that ride queues. An error means that it did not: the
// commands then have an error each.
func (l *Limiter) ask(ctx context.Context, ride func(redis.Pipeliner), key string, limits []Limit) (Decision, error) {
	if l.degraded.Load() {
		if !l.probe.TryLock() {
			failAll(l.shared.client.Pipeline(), ride)
			return Decision{}, errAway
		}
		defer l.probe.Unlock()
	}
	// A client that goes away is no trouble of Redis', and its request counts all the same.
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.config.Timeout)
	defer cancel()
	d, err := l.shared.TakeWith(bounded, ride, key, limits...)
	l.became(ctx, err != nil, err)
	return d, err
}

// failAll gives the commands that ride would send the answer of a Redis that is away.
func failAll(p redis.Pipeliner, ride func(redis.Pipeliner)) {
	if ride == nil {
		return
	}
	ride(p)
	for _, c := range p.Cmds() {
		c.SetErr(errAway)
	}
}

// alone decides with this copy's share of each limit.
func (l *Limiter) alone(key string, limits []Limit) Decision {
	shares := make([]Limit, len(limits))
	for i, limit := range limits {
		shares[i] = Limit{max(limit.N/l.config.MaxCopies, 1), limit.Window}
	}
	d := l.local.take(key, shares)
	d.Degraded = true
	l.decided.Inc()
	return d
}

// became notes the mode; a change is one log line.
func (l *Limiter) became(ctx context.Context, degraded bool, err error) {
	if !l.degraded.CompareAndSwap(!degraded, degraded) {
		return
	}
	if degraded {
		l.log.WarnContext(ctx, "limits are decided by this copy alone", "err", err)
		return
	}
	l.log.InfoContext(ctx, "limits are shared again")
}
