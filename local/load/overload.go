package load

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"marketdata/shared/testenv/wire"
)

const (
	overloadFactor  = 10
	sustained       = 16 // requests in flight when a route is alone
	mostInFlight    = 10_000
	overloadP99     = 2500 * time.Millisecond // of an admitted request: it may wait for a seat and for its turn, on a machine that is busy
	recoverWithin   = 5 * time.Second
	recoveredAnswer = 250 * time.Millisecond // of a request to a function that has recovered
	recoveredFor    = time.Second
	overloadMemory  = 256 // MiB, the limit of a container
)

// flooded is a route that is offered far more than it sustains.
type flooded struct {
	name     string
	function string
	next     func(i int) []byte
	alone    int                             // requests in flight when it is alone; 0: sustained
	prepare  func(ctx context.Context) error // nil: nothing
	// kept returns how many of the requests that were admitted had the effect that they must have; nil: they have none.
	kept func(ctx context.Context) (int, error)
	// once says that a request changes something that can be changed once. It may be asked for again: that is refused with 404 or 409.
	once    bool
	measure func(ctx context.Context) error // in place of all that; nil: flood
}

// done returns whether a status is the answer of a function that did what it was asked to.
func (r flooded) done(status int) bool {
	return status < 300 || r.once && (status == http.StatusNotFound || status == http.StatusConflict)
}

// floodRoutes measures what each route sustains, offers it ten times that rate for a while, and then waits for it to recover: memory is
// bounded, a refusal says when to come back, those that are admitted are answered soon, and nothing that was accepted is lost.
//
// Clients run on the same machine as the system. Ten times what a fast route sustains is more than they can send, or more than the machine
// can refuse: then all connections are in use, and the factor says how much was sent.
func (m *run) floodRoutes(ctx context.Context) error {
	stop, err := m.startSources(ctx, nil) // ticks publish what functions under load leave in the outbox
	if err != nil {
		return err
	}
	defer stop()
	routes := m.floods()
	// What the queries read.
	events := routes[0]
	if _, err := wire.Load(ctx, m.env[variable(events.function)], inFlight, m.round, events.next, wire.Expect(http.StatusNoContent)); err != nil {
		return err
	}
	if m.routes == nil {
		if err := m.holdConnections(ctx); err != nil {
			return err
		}
	}
	m.say("\n| route | sustained | offered | sent | factor | admitted | refused | p99 of the admitted | memory at most | recovered after | cores of the clients |")
	m.say("|---|---|---|---|---|---|---|---|---|---|---|")
	var failures error
	for _, r := range routes {
		if m.routes != nil && !m.routes.MatchString(r.name) {
			continue
		}
		measure := r.measure
		if measure == nil {
			measure = func(ctx context.Context) error { return m.flood(ctx, r) }
		}
		if err := measure(ctx); err != nil {
			failures = errors.Join(failures, fmt.Errorf("%s: %w", r.name, err))
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return failures
}

// flood is one route's line of the table.
func (m *run) flood(ctx context.Context, r flooded) error {
	base := m.env[variable(r.function)]
	if r.prepare != nil {
		if err := r.prepare(ctx); err != nil {
			return err
		}
	}
	count := func() (n int, err error) {
		if r.kept != nil {
			n, err = r.kept(ctx)
		}
		return n, err
	}
	before, err := count()
	if err != nil {
		return err
	}
	alone, err := wire.Load(ctx, base, cmp.Or(r.alone, sustained), m.round, r.next, func(status int, _ string) error {
		if r.done(status) {
			return nil
		}
		return fmt.Errorf("status %d without any overload", status)
	})
	if err != nil {
		return err
	}
	o, err := wire.Offer(ctx, base, mostInFlight, overloadFactor*alone.Rate, m.flooding, r.next)
	if err != nil {
		return err
	}
	recovered, wrong := m.recovery(ctx, base, r)
	recovered += o.Drained
	peak, err := m.metric(ctx, r.function, "process_resident_memory_peak_bytes")
	if err != nil {
		return err
	}
	peak /= 1 << 20
	rate := func(n int) float64 { return float64(n) / m.flooding.Seconds() }
	m.say("| %s | %s/s | %s/s | %s/s | %.1f | %s/s | %s/s | %s | %s MiB | %s | %.1f |", r.name, number(alone.Rate), number(rate(o.Sent+o.NotSent)),
		number(rate(o.Sent)), rate(o.Sent)/alone.Rate, number(rate(o.Admitted)), number(rate(o.Refused)), rounded(o.P99), number(peak), rounded(recovered),
		o.CPU.Seconds()/(m.flooding+o.Drained).Seconds())
	for _, what := range slices.Sorted(maps.Keys(o.Other)) {
		wrong = errors.Join(wrong, fmt.Errorf("%d times: %s", o.Other[what], what))
	}
	if o.HungUp > o.Sent/1000 {
		wrong = errors.Join(wrong, fmt.Errorf("%d requests were sent while their connections were closed", o.HungUp))
	}
	if o.Stale > 0 && !r.once {
		wrong = errors.Join(wrong, fmt.Errorf("%d times: status 404 or 409", o.Stale))
	}
	wrong = errors.Join(wrong, withinBounds(r.function, o.P99, recovered, peak))
	if r.kept != nil {
		var after int
		want := before + alone.Requests + o.Admitted - o.Hits - o.Stale // and those of the recovery
		if err := await(ctx, time.Minute, func() (bool, error) { after, err = count(); return after >= want, err }, "lost"); err != nil {
			wrong = errors.Join(wrong, fmt.Errorf("%d of %d accepted requests are %w", want-after, alone.Requests+o.Admitted, err))
		}
	}
	return wrong
}

// withinBounds returns what an overloaded function did worse than it must. peak is in MiB.
func withinBounds(function string, p99, recovered time.Duration, peak float64) (wrong error) {
	if p99 > overloadP99 {
		wrong = errors.Join(wrong, fmt.Errorf("of the admitted requests a hundredth took longer than %s", rounded(p99)))
	}
	if recovered > recoverWithin {
		wrong = errors.Join(wrong, fmt.Errorf("it took %s to recover", rounded(recovered)))
	}
	if peak > overloadMemory {
		wrong = errors.Join(wrong, fmt.Errorf("%s used %s MiB", function, number(peak)))
	}
	return wrong
}

// recovery sends one request at a time until all are answered well and soon for a while, and returns how long it took until then.
func (m *run) recovery(ctx context.Context, base string, r flooded) (time.Duration, error) {
	began := time.Now()
	conn, err := wire.New(base)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	for since := began; ctx.Err() == nil; {
		start := time.Now()
		status, _, err := conn.Do(r.next(-1 - int(m.recoveries.Add(1))))
		end := time.Now()
		if err != nil || !r.done(status) || end.Sub(start) >= recoveredAnswer {
			since = end
		}
		switch {
		case end.Sub(since) > recoveredFor:
			return since.Sub(began), nil
		case end.Sub(began) > time.Minute:
			return end.Sub(began), errors.Join(fmt.Errorf("it does not recover: status %d", status), err)
		}
	}
	return 0, context.Cause(ctx)
}

// rounded formats a duration with about three digits.
func rounded(d time.Duration) string {
	if d >= time.Second {
		return d.Round(10 * time.Millisecond).String()
	}
	return d.Round(100 * time.Microsecond).String()
}
