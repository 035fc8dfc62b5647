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

	"marketdata/shared/metric"
	"marketdata/shared/redisclient"
)

// Limiter decides with Redis. While Redis is unavailable it is degraded: each replica decides alone, by the same rule with its
// share of the limits. A client's limit is divided by the most replicas of a function, so that all of them together admit about
// the limit; callers of [Limiter.Take] pass their own shares. Safe for concurrent use.
//
// The limiter becomes degraded when Redis is silent, refuses connections or returns an error. Waiting for a connection and
// opening one do not count as silence, see [pulse]. While degraded, it tries Redis with one request at a time, at most once per
// [probeEvery]; the first decision by Redis ends the mode.
type Limiter struct {
	client   *redis.Client
	shared   *Redis
	local    *Memory
	pulse    *pulse
	config   Config
	proxies  proxies
	keys     keyring
	now      func() time.Time
	log      *slog.Logger
	metrics  *metrics.Set
	decided  *metrics.Counter // decisions while degraded
	degraded atomic.Bool
	session  atomic.Pointer[session]
	probe    sync.Mutex // held by the request that tries Redis while degraded
	mu       sync.Mutex // serializes changes of the mode
	probeAt  time.Time  // when the next request may try Redis; guarded by mu
}

// session is a period in which Redis answers. Its end releases the requests that wait for a connection.
type session struct {
	ctx    context.Context //nolint:containedctx // it bounds the session, not a call
	cancel context.CancelFunc
}

func newSession() *session {
	ctx, cancel := context.WithCancel(context.Background())
	return &session{ctx, cancel}
}

// probeEvery is the interval at which a degraded replica tries Redis. It also bounds how often the mode can change.
const probeEvery = time.Second

// outageWait is the Reset of a share of zero, a guess at when Redis will be back. It is longer than the time that a tick of poll
// has for its calls, so that the tick continues with other providers instead of waiting.
const outageWait = 30 * time.Second

// patience is how long a request waits for its answer while Redis answers others.
const patience = 2 * time.Second

// dialPatience is the number of timeouts that opening a connection may take: TLS and a password need several round trips.
const dialPatience = 5

var (
	errDown = errors.New("redis is unavailable")
	// errBusy means that Redis answers other requests but not this one. Deciding alone would admit more than the limit.
	errBusy = errors.New("redis is busy")
)

// New returns a limiter with connections of its own, with the settings of client. It does not connect. Close it after use.
func New(client *redis.Client, c Config, log *slog.Logger) *Limiter {
	options := *client.Options()
	options.MaxRetries = -1       // no retries; an open client's options have 0, which would mean the default of 3
	options.PipelinePoolSize = -1 // one pool; again, 0 would mean the default
	p := &pulse{timeout: c.Timeout, patience: max(patience, c.Timeout)}
	options.Dialer = p.watch(options.Dialer)
	options.DialTimeout = dialPatience * c.Timeout
	options.ReadTimeout, options.WriteTimeout = c.Timeout, c.Timeout
	options.PoolTimeout = p.patience
	l := &Limiter{client: redis.NewClient(&options), pulse: p, local: NewMemory(time.Now), config: c, now: time.Now, log: log}
	l.proxies, _ = parseProxies(c.TrustedProxies) // errors are those of Validate
	l.keys, _ = c.APIKeys.parse()
	l.shared = NewRedis(l.client, "limit:")
	l.session.Store(newSession())
	l.metrics = metrics.NewSet()
	metric.Describe(help)
	l.decided = l.metrics.NewCounter("marketdata_limiter_degraded_decisions_total")
	l.metrics.NewGauge("marketdata_limiter_degraded", func() float64 {
		if l.degraded.Load() {
			return 1
		}
		return 0
	})
	return l
}

var help = []metric.Help{
	{Name: "marketdata_limiter_degraded", Text: "1 while this replica decides about requests without Redis, otherwise 0."},
	{Name: "marketdata_limiter_degraded_decisions_total", Text: "Decisions made without Redis."},
	{Name: "marketdata_limiter_refusals_total", Text: "Requests refused by a limit."},
}

// Close closes the connections. The limiter must not be used afterwards.
func (l *Limiter) Close() error {
	l.shared.Close()
	return l.client.Close()
}

// Observe adds the limiter's metrics to set. Call it once.
func (l *Limiter) Observe(set *metrics.Set) { set.RegisterMetricsWriter(l.metrics.WritePrometheus) }

// refusals returns the counter of requests that a limit refused.
func (l *Limiter) refusals(policy string) *metrics.Counter {
	return l.metrics.GetOrCreateCounter(fmt.Sprintf("marketdata_limiter_refusals_total{policy=%q}", policy))
}

// warmTimeout is how long the readiness probe waits for Redis.
const warmTimeout = 500 * time.Millisecond

// Warm opens a connection to Redis and loads the script. /readyz calls it, so that no request has to wait for either.
func (l *Limiter) Warm(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, warmTimeout)
	defer cancel()
	return l.shared.Load(ctx)
}

// Take decides one request of key, for which all limits must have room. While degraded, it uses this replica's shares instead,
// one for each limit; requests that Redis admitted for this replica count against them, too. A share with N = 0 admits nothing
// until Redis is back.
func (l *Limiter) Take(ctx context.Context, key string, limits, shares []Limit) Decision {
	d, err := l.ask(ctx, nil, key, limits)
	switch {
	case errors.Is(err, errBusy):
		return Decision{Left: make([]int, len(limits)), Reset: time.Second}
	case err != nil:
		return l.alone(key, shares)
	}
	if d.Allowed {
		l.local.take(key, limits) // records the admission
	}
	return d
}

// ask lets Redis decide, in one round trip with the commands that ride queues. If it returns an error, Redis did not decide, and
// each of the commands has an error. The request counts even if its client goes away and ctx ends.
func (l *Limiter) ask(ctx context.Context, ride func(redis.Pipeliner), key string, limits []Limit) (Decision, error) {
	if l.degraded.Load() {
		return l.askAgain(ctx, ride, key, limits)
	}
	s := l.session.Load()
	d, err := l.shared.TakeWith(s.ctx, ride, key, limits...)
	beats := l.pulse.beats.Load()
	if err != nil && s.ctx.Err() == nil && l.lost(err) {
		// The connection broke, or Redis answers on others but not on this one. If the script ran, the request counts twice. That
		// refuses too much, while deciding alone would admit too much.
		d, err = l.shared.TakeWith(s.ctx, ride, key, limits...)
	}
	switch {
	case err == nil:
		return d, nil
	case s.ctx.Err() != nil: // another request has found Redis unavailable
		return Decision{}, errDown
	case l.busy(err, beats):
		return Decision{}, fmt.Errorf("%w: %w", errBusy, err)
	}
	l.became(ctx, true, err)
	return Decision{}, err
}

// askAgain tries Redis while degraded, if it is time to.
func (l *Limiter) askAgain(ctx context.Context, ride func(redis.Pipeliner), key string, limits []Limit) (Decision, error) {
	if !l.probe.TryLock() {
		l.failRider(ride)
		return Decision{}, errDown
	}
	defer l.probe.Unlock()
	if !l.mayProbe() {
		l.failRider(ride)
		return Decision{}, errDown
	}
	d, err := l.shared.TakeWith(context.WithoutCancel(ctx), ride, key, limits...)
	if err != nil {
		return Decision{}, err
	}
	l.became(ctx, false, nil)
	return d, nil
}

// mayProbe reports whether Redis may be tried now. If so, the next time is [probeEvery] later.
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

// lost reports whether err is a failure of one connection rather than of Redis.
func (l *Limiter) lost(err error) bool {
	switch {
	case isReply(err), errors.Is(err, redis.ErrPoolTimeout):
		return false
	case isTimeout(err):
		return l.pulse.alive()
	}
	return true
}

// busy reports whether Redis answered others during the attempt that failed with err. beats is the pulse's count before it.
func (l *Limiter) busy(err error, beats int64) bool {
	switch {
	case isReply(err):
		return false
	case isTimeout(err), errors.Is(err, redis.ErrPoolTimeout):
		return l.pulse.alive()
	}
	return l.pulse.beats.Load() != beats
}

// isReply reports whether err is an error reply of Redis, such as OOM, READONLY or LOADING.
func isReply(err error) bool {
	var reply redis.Error
	return errors.As(err, &reply)
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// failRider fails the commands that ride queues with errDown.
func (l *Limiter) failRider(ride func(redis.Pipeliner)) {
	if ride != nil {
		redisclient.Fail(l.client, ride, errDown)
	}
}

// clientShare returns this replica's share of a client's limit, at least one, so that no client is locked out.
func (l *Limiter) clientShare(limit Limit) Limit {
	return Limit{max(limit.N/l.config.MaxCopies, 1), limit.Window}
}

// alone decides by this replica's share of each limit.
func (l *Limiter) alone(key string, shares []Limit) Decision {
	l.decided.Inc()
	if slices.ContainsFunc(shares, func(s Limit) bool { return s.N < 1 }) {
		return Decision{Left: make([]int, len(shares)), Reset: outageWait, Degraded: true}
	}
	d := l.local.take(key, shares)
	d.Degraded = true
	return d
}

// became sets the mode. It writes one log line if the mode changes.
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
		l.log.WarnContext(ctx, "redis is unavailable: this replica enforces its share of the limits", "err", err)
		return
	}
	l.session.Store(newSession())
	l.degraded.Store(false)
	l.log.InfoContext(ctx, "redis is back: limits are shared again")
}
