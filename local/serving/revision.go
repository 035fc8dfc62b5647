package serving

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"marketdata/local/balance"
)

const (
	// readyEvery is how often a replica that starts is asked whether it is ready, as by queue-proxy for a probe without a period.
	readyEvery = 50 * time.Millisecond
	// probeEvery is how often a replica that was ready is asked again.
	probeEvery = time.Second
	// maxQueue is how many requests may wait for a replica (serving, pkg/activator/net/throttler.go).
	maxQueue = 10_000
	// restartPause comes before another attempt to start a replica.
	restartPause = time.Second
)

// errQueueFull means that too many requests already wait for a replica.
var errQueueFull = errors.New("too many requests wait for a replica")

// revision runs the replicas of one function, as many as its requests need.
type revision struct {
	name      string
	spec      Spec
	start     Starter
	log       *slog.Logger
	transport http.RoundTripper

	mu       sync.Mutex
	changed  chan struct{} // closed when a waiting request may find a replica; then replaced
	replicas []*replica    // in the order of their start
	serving  int           // requests at a replica
	waiting  int           // requests that wait for one
	load     load
	wakes    wakes
	closed   bool
	running  sync.WaitGroup // goroutines that watch replicas
}

// replica is one process of a function.
type replica struct {
	url      *url.URL
	stop     func(context.Context)
	end      context.CancelFunc // of its watch
	ready    bool
	inFlight int
}

// acquire returns a replica that takes a request, and counts the request until release. If no replica runs, it starts one. cold is how
// long the request waited, if no replica was ready when it came.
func (r *revision) acquire(ctx context.Context) (chosen *replica, cold time.Duration, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.waiting >= maxQueue {
		return nil, 0, errQueueFull
	}
	began, asleep := time.Now(), !slices.ContainsFunc(r.replicas, func(c *replica) bool { return c.ready })
	r.load.change(began, +1)
	r.waiting++
	defer func() { r.waiting-- }()
	for {
		if chosen = r.free(); chosen != nil {
			chosen.inFlight++
			r.serving++
			if asleep {
				cold = time.Since(began)
			}
			return chosen, cold, nil
		}
		if len(r.replicas) == 0 {
			r.launch()
		}
		changed := r.changed
		r.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
		}
		r.mu.Lock()
		if ctx.Err() != nil {
			r.load.change(time.Now(), -1)
			return nil, 0, ctx.Err()
		}
	}
}

// free returns the ready replica with the fewest requests in flight, if it takes another one.
func (r *revision) free() (best *replica) {
	for _, c := range r.replicas {
		if c.ready && (best == nil || c.inFlight < best.inFlight) {
			best = c
		}
	}
	if best != nil && r.spec.Concurrency > 0 && best.inFlight >= r.spec.Concurrency {
		return nil
	}
	return best
}

// release ends a request. refused: the replica took no connection, so that it gets no request until a probe finds it ready again.
func (r *revision) release(c *replica, refused bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c.inFlight--
	c.ready = c.ready && !refused
	r.serving--
	r.load.change(time.Now(), -1)
	r.wake()
}

// wake lets waiting requests look for a replica again.
func (r *revision) wake() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// launch starts a replica. The caller holds the lock.
func (r *revision) launch() {
	if r.closed {
		return
	}
	ctx, end := context.WithCancel(context.Background())
	c := &replica{end: end}
	r.replicas = append(r.replicas, c)
	r.running.Go(func() { r.watch(ctx, c) })
}

// watch starts the process of a replica, and follows its readiness until ctx ends. Then it stops the process, once its requests are done.
func (r *revision) watch(ctx context.Context, c *replica) {
	began := time.Now()
	for {
		address, stop, err := r.start(ctx)
		if err == nil {
			c.url, c.stop = address, stop
			break
		}
		r.log.Error("replica does not start", "function", r.name, "err", err)
		if !pause(ctx, restartPause) {
			return
		}
	}
	every := readyEvery
	for pause(ctx, every) {
		ready := balance.Probe(ctx, r.transport, c.url)
		if ctx.Err() != nil {
			break
		}
		r.mu.Lock()
		if ready && every == readyEvery {
			every = probeEvery
			r.wakes.add(time.Since(began))
		}
		if c.ready = ready; ready {
			r.wake()
		}
		r.mu.Unlock()
	}
	c.stop(context.Background())
}

// pause waits, and reports whether ctx still goes on.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// scale starts and stops replicas for the load of the last window.
func (r *revision) scale(now time.Time, window time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	want := int(math.Ceil(r.load.peak(now, window) / r.spec.Target))
	want = max(want, r.spec.MinScale)
	if r.spec.MaxScale > 0 {
		want = min(want, r.spec.MaxScale)
	}
	for len(r.replicas) < want && !r.closed {
		r.launch()
	}
	// The youngest goes first. A replica with requests in flight stays until a later tick.
	for i := len(r.replicas) - 1; i >= 0 && len(r.replicas) > want; i-- {
		if c := r.replicas[i]; c.inFlight == 0 {
			r.replicas = slices.Delete(r.replicas, i, i+1)
			c.end()
		}
	}
}

// close stops all replicas, and returns once they are gone or ctx ends.
func (r *revision) close(ctx context.Context) {
	r.mu.Lock()
	r.closed = true
	for _, c := range r.replicas {
		c.end()
	}
	r.mu.Unlock()
	done := make(chan struct{})
	go func() { r.running.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
	}
}
