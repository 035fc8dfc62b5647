package ratelimit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/redis/go-redis/v9"

	"marketdata/shared/redisclient"
)

// Limiter decides with Redis while it answers. While it does not, each replica decides alone: by the same rule with its
// share of the limits. A client's limit is divided by the most replicas there may be, so that all of them together admit
// about the limit; callers of [Limiter.Take] bring shares of their own. Safe for concurrent use.
//
// Waiting for a connection and opening one do not count as silence of Redis, see [pulse]. A replica decides alone once
// Redis is silent, refuses connections or answers with an error, and asks again at most once per [probeEvery], with one
// request; the first decision that Redis makes ends it.
type Limiter struct {
	client   *redis.Client
	shared   *Redis
	local    *Memory
	pulse    *pulse
	config   Config
	now      func() time.Time
	log      *slog.Logger
	metrics  *metrics.Set
	decided  *metrics.Counter // decisions of this replica alone
	degraded atomic.Bool
	session  atomic.Pointer[session]
	probe    sync.Mutex // held by the request that asks while Redis is away
	mu       sync.Mutex // serializes changes of the mode
	probeAt  time.Time  // when a request may ask again; guarded by mu
}

// session lasts while Redis answers. Its end frees the requests that wait for a connection.
type session struct {
	ctx    context.Context //nolint:containedctx // what it bounds is the session, not a call
	cancel context.CancelFunc
}

func newSession() *session {
	ctx, cancel := context.WithCancel(context.Background())
	return &session{ctx, cancel}
}

// probeEvery is how often a replica that decides alone asks whether Redis is back. It also bounds how often the mode can
// change while Redis comes and goes.
const probeEvery = time.Second

// awayWait is the Reset of a share that admits nothing: nobody knows when Redis will be back. It is longer than a tick of
// poll has for its calls, so that the tick goes on with other providers instead of waiting.
const awayWait = 30 * time.Second

// patience is how long a request waits while Redis answers others.
const patience = 2 * time.Second

// dialPatience is how many timeouts opening a connection may take: several round trips where there is TLS or a password.
const dialPatience = 5

var (
	errAway = errors.New("redis is known to be away")
	// errBusy: Redis answers others, but not this request. Deciding alone would admit more than the limit.
	errBusy = errors.New("redis is busy")
)

// New makes a limiter with connections of its own, opened with the settings of client. It does not connect. Close it
// after use.
func New(client *redis.Client, c Config, log *slog.Logger) *Limiter {
	options := *client.Options()
	options.MaxRetries = -1       // the options of an open client say 0, which would mean the default of 3
	options.PipelinePoolSize = -1 // likewise: one pool
	p := &pulse{timeout: c.Timeout, patience: max(patience, c.Timeout)}
	options.Dialer = p.watch(options.Dialer)
	options.DialTimeout = dialPatience * c.Timeout
	options.ReadTimeout, options.WriteTimeout = c.Timeout, c.Timeout
	options.PoolTimeout = p.patience
	l := &Limiter{client: redis.NewClient(&options), pulse: p, local: NewMemory(time.Now), config: c, now: time.Now, log: log}
	l.shared = NewRedis(l.client, "limit:")
	l.session.Store(newSession())
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

// Close closes the connections. Nobody may use the limiter afterwards.
func (l *Limiter) Close() error {
	l.shared.Close()
	return l.client.Close()
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

// Take decides one request of key, for which all limits must have room. While this replica decides alone, it goes by its
// shares instead, one for each limit, and what Redis admitted for it before counts against them, too. A share with an N of
// 0 admits nothing until Redis is back.
func (l *Limiter) Take(ctx context.Context, key string, limits, shares []Limit) Decision {
	d, err := l.ask(ctx, nil, key, limits)
	switch {
	case errors.Is(err, errBusy):
		return Decision{Left: make([]int, len(limits)), Reset: time.Second}
	case err != nil:
		return l.alone(key, shares)
	}
	if d.Allowed {
		l.local.take(key, limits) // only to have it in the log
	}
	return d
}

// ask lets Redis decide, in one round trip with the commands that ride queues. An error means that it did not: the
// commands then have an error each. The request counts even if its client, which ctx is about, goes away.
func (l *Limiter) ask(ctx context.Context, ride func(redis.Pipeliner), key string, limits []Limit) (Decision, error) {
	if l.degraded.Load() {
		return l.askAgain(ctx, ride, key, limits)
	}
	s := l.session.Load()
	d, err := l.shared.TakeWith(s.ctx, ride, key, limits...)
	beats := l.pulse.beats.Load()
	if err != nil && s.ctx.Err() == nil && l.lost(err) {
		// A connection broke, or its answer is lost while Redis answers others. If the script ran it counts twice: that errs
		// on the side of refusing, where deciding alone would admit more than the limit.
		d, err = l.shared.TakeWith(s.ctx, ride, key, limits...)
	}
	switch {
	case err == nil:
		return d, nil
	case s.ctx.Err() != nil: // ended meanwhile, by a request that knew more
		return Decision{}, errAway
	case l.busy(err, beats):
		return Decision{}, fmt.Errorf("%w: %w", errBusy, err)
	}
	l.became(ctx, true, err)
	return Decision{}, err
}

// askAgain asks a Redis that was away, if it is time to.
func (l *Limiter) askAgain(ctx context.Context, ride func(redis.Pipeliner), key string, limits []Limit) (Decision, error) {
	if !l.probe.TryLock() {
		l.failRider(ride)
		return Decision{}, errAway
	}
	defer l.probe.Unlock()
	if !l.mayProbe() {
		l.failRider(ride)
		return Decision{}, errAway
	}
	d, err := l.shared.TakeWith(context.WithoutCancel(ctx), ride, key, limits...)
	if err != nil {
		return Decision{}, err
	}
	l.became(ctx, false, nil)
	return d, nil
}

// mayProbe reports whether it is time to ask again, which it then is not for another [probeEvery].
func (l *Limiter) mayProbe() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	if now.Before(l.probeAt) {
		return false
	}
	l.probeAt = now.Add(probeEvery)
	return true
}

// lost reports an error that says more about a connection than about Redis.
func (l *Limiter) lost(err error) bool {
	switch {
	case isReply(err), errors.Is(err, redis.ErrPoolTimeout):
		return false
	case isTimeout(err):
		return l.pulse.alive()
	}
	return true
}

// busy reports an error of a Redis that answers others. beats is the pulse's count when the failed attempt began.
func (l *Limiter) busy(err error, beats int64) bool {
	switch {
	case isReply(err):
		return false
	case isTimeout(err), errors.Is(err, redis.ErrPoolTimeout):
		return l.pulse.alive()
	}
	return l.pulse.beats.Load() != beats
}

// isReply reports an error that Redis itself answered with, such as OOM, READONLY or LOADING.
func isReply(err error) bool {
	var reply redis.Error
	return errors.As(err, &reply)
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// failRider gives the commands that ride would send the answer of a Redis that is away.
func (l *Limiter) failRider(ride func(redis.Pipeliner)) {
	if ride != nil {
		redisclient.Fail(l.client, ride, errAway)
	}
}

// clientShare is what this replica admits alone of a client's limit: at least one, so that no client is shut out.
func (l *Limiter) clientShare(limit Limit) Limit {
	return Limit{max(limit.N/l.config.MaxCopies, 1), limit.Window}
}

// alone decides with this replica's share of each limit.
func (l *Limiter) alone(key string, shares []Limit) Decision {
	l.decided.Inc()
	if slices.ContainsFunc(shares, func(s Limit) bool { return s.N < 1 }) {
		return Decision{Left: make([]int, len(shares)), Reset: awayWait, Degraded: true}
	}
	d := l.local.take(key, shares)
	d.Degraded = true
	return d
}

// became changes the mode, if that is news. A change is one log line.
func (l *Limiter) became(ctx context.Context, degraded bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.degraded.Load() == degraded {
		return
	}
	if degraded {
		l.session.Load().cancel()
		l.probeAt = l.now().Add(probeEvery)
		l.degraded.Store(true)
		l.log.WarnContext(ctx, "limits are decided by this replica alone", "err", err)
		return
	}
	l.session.Store(newSession())
	l.degraded.Store(false)
	l.log.InfoContext(ctx, "limits are shared again")
}
