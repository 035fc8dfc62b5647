package load

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"marketdata/shared/testenv/wire"
)

const (
	overloadFactor  = 10
	sustained       = 16 // requests in flight when a route is alone
	overloadConns   = 1000
	overloadP99     = 2 * time.Second // of an admitted request
	recoverWithin   = 5 * time.Second
	recoveredAnswer = 250 * time.Millisecond // of a request to a function that has recovered
	overloadMemory  = 128                    // MiB
)

// flooded is a route that is offered far more than it sustains.
type flooded struct {
	name     string
	function string
	next     func(i int) []byte
	prepare  func(ctx context.Context) error // nil: nothing
	// kept returns how many of the requests that were admitted had the effect that they must have; nil: they have none.
	kept func(ctx context.Context) (int, error)
}

// floodRoutes measures what each route sustains, offers it ten times that rate for a while, and then waits for it to recover: memory is
// bounded, a refusal says when to come back, those that are admitted are answered soon, and nothing that was accepted is lost.
func (m *run) floodRoutes(ctx context.Context) error {
	routes := m.floods()
	// What the queries read.
	events := routes[0]
	if _, err := wire.Load(ctx, m.env[variable(events.function)], inFlight, m.round, events.next, wire.Expect(http.StatusNoContent)); err != nil {
		return err
	}
	m.say("\n| route | alone | offered | admitted | refused | p99 of the admitted | memory at most | recovered after |\n|---|---|---|---|---|---|---|---|")
	var failures error
	for _, r := range routes {
		if err := m.flood(ctx, r); err != nil {
			failures = errors.Join(failures, fmt.Errorf("%s: %w", r.name, err))
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return errors.Join(failures, m.holdConnections(ctx))
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
	alone, err := wire.Load(ctx, base, sustained, m.round, r.next, func(status int, _ string) error {
		if status >= 300 {
			return fmt.Errorf("status %d without any overload", status)
		}
		return nil
	})
	if err != nil {
		return err
	}
	o, err := wire.Offer(ctx, base, overloadConns, overloadFactor*alone.Rate, m.flooding, r.next)
	if err != nil {
		return err
	}
	recovered, err := m.recovery(ctx, base, r)
	if err != nil {
		return err
	}
	peak, err := m.metric(ctx, r.function, "process_resident_memory_peak_bytes")
	if err != nil {
		return err
	}
	peak /= 1 << 20
	m.say("| %s | %s/s, p99 %s | %s/s | %s/s | %s/s | %s | %s MiB | %s |", r.name, number(alone.Rate), rounded(alone.P99), number(o.Rate),
		number(float64(o.Admitted)/m.flooding.Seconds()), number(float64(o.Refused)/m.flooding.Seconds()), rounded(o.P99), number(peak), rounded(recovered))
	var wrong error
	for _, what := range slices.Sorted(maps.Keys(o.Other)) {
		wrong = errors.Join(wrong, fmt.Errorf("%d times: %s", o.Other[what], what))
	}
	if o.P99 > overloadP99 {
		wrong = errors.Join(wrong, fmt.Errorf("of the admitted requests a hundredth took longer than %s", rounded(o.P99)))
	}
	if recovered > recoverWithin {
		wrong = errors.Join(wrong, fmt.Errorf("it took %s to recover", rounded(recovered)))
	}
	if peak > overloadMemory {
		wrong = errors.Join(wrong, fmt.Errorf("%s used %s MiB", r.function, number(peak)))
	}
	if r.kept != nil {
		var after int
		want := before + alone.Requests + o.Admitted - o.Hits // and those of the recovery
		if err := await(ctx, time.Minute, func() (bool, error) { after, err = count(); return after >= want, err }, "lost"); err != nil {
			wrong = errors.Join(wrong, fmt.Errorf("%d of %d accepted requests are %w", want-after, alone.Requests+o.Admitted, err))
		}
	}
	return wrong
}

// recovery sends one request at a time until one is answered well and soon, and returns how long that took.
func (m *run) recovery(ctx context.Context, base string, r flooded) (time.Duration, error) {
	began := time.Now()
	conn, err := wire.New(base)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	for ctx.Err() == nil {
		start := time.Now()
		status, _, err := conn.Do(r.next(-1 - int(m.recoveries.Add(1))))
		switch {
		case err == nil && status < 300 && time.Since(start) < recoveredAnswer:
			return time.Since(began), nil
		case time.Since(began) > time.Minute:
			return time.Since(began), fmt.Errorf("it does not recover: status %d, %w", status, err)
		}
	}
	return 0, context.Cause(ctx)
}

// floods lists the routes.
func (m *run) floods() []flooded {
	var at atomic.Int64 // each request makes something new, also over all rounds
	get := func(function, name, path string, headers ...string) flooded {
		target := m.env[variable(function)] + path
		return flooded{name: name, function: function, next: func(int) []byte {
			return wire.Request("GET", target, nil, append([]string{m.clients.next()}, headers...)...)
		}}
	}
	rows := func(query string) func(ctx context.Context) (int, error) {
		return func(ctx context.Context) (n int, err error) {
			if err := m.pool.QueryRow(ctx, query).Scan(&n); err != nil {
				return 0, fmt.Errorf("count: %w", err)
			}
			return n, nil
		}
	}
	post := func(function, name, path string, body func(n int) ([]byte, []string), kept string) flooded {
		target := m.env[variable(function)] + path
		return flooded{name: name, function: function, kept: rows(kept), next: func(int) []byte {
			b, headers := body(int(at.Add(1)))
			return wire.Request("POST", target, b, append(headers, m.clients.next())...)
		}}
	}
	token := "Authorization: Bearer " + m.env["DLQ_TOKEN"]
	misses := m.env[variable("get-latest")] + "/prices/latest?provider=yfinance&symbol=LOAD"
	search := get("dlq-inspector", "search", "/dlq/messages?q=event+77", token)
	search.prepare = func(ctx context.Context) error { // the letters before; ticks would do it
		if _, err := m.pool.Exec(ctx, indexLetters); err != nil {
			return fmt.Errorf("index letters: %w", err)
		}
		return nil
	}
	return []flooded{
		post("compute-ma", "events", "/", func(n int) ([]byte, []string) { e := newEvent("FLOOD", n); return e.value, e.lines() },
			"select count(*) from price_points where symbol like 'FLOOD%'"),
		get("compute-ma", "newest average", "/averages/latest?symbol=FLOOD1&provider=yfinance&window=5"),
		get("compute-ma", "history of averages", "/averages/history?symbol=FLOOD1&provider=yfinance&window=5&limit=100"),
		get("get-latest", "price, cached", "/prices/latest?symbol=AAPL&provider=yfinance"),
		{name: "price, fetched", function: "get-latest", next: func(int) []byte {
			return wire.Request("GET", misses+strconv.FormatInt(at.Add(1)%missSymbols, 10), nil, m.clients.next())
		}, kept: rows("select (select count(*) from raw_responses where symbol like 'LOAD%') - (select count(*) from outbox)")}, // stored and published
		get("get-latest", "history of prices", "/prices/history?symbol=AAPL&provider=yfinance&limit=100"),
		post("poll", "new job", "/prices/poll", func(int) ([]byte, []string) {
			return []byte(`{"symbols":["AAPL"],"interval":86400,"provider":"yfinance"}`), []string{"Content-Type: application/json"}
		}, "select count(*) from polling_jobs"),
		get("poll", "jobs", "/prices/poll?limit=20"),
		post("dlq-inspector", "dead letters", "/", func(n int) ([]byte, []string) { return []byte("no event " + strconv.Itoa(n)), nil },
			"select count(*) from dead_letters"),
		get("dlq-inspector", "causes", "/dlq/groups", token),
		search,
	}
}

// holdConnections opens many connections to each function that send nothing, or half of a header, and watches good requests among them.
func (m *run) holdConnections(ctx context.Context) error {
	const held = 10_000
	m.say("\n| %d connections that send nothing, or half of a request | good requests | p99 | memory at most | closed after |\n|---|---|---|---|---|", held)
	paths := map[string]string{
		"get-latest": "/prices/history?symbol=AAPL&provider=yfinance&limit=1", "poll": "/prices/poll?limit=1",
		"compute-ma": "/averages/latest?symbol=FLOOD1&provider=yfinance&window=5", "dlq-inspector": "/dlq/page/page.css",
	}
	for _, function := range functions {
		base := m.env[variable(function)]
		began := time.Now()
		closed := make(chan struct{}, held)
		for i := range held {
			c, err := (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, "tcp", base[len("http://"):])
			if err != nil {
				return fmt.Errorf("%s: connection %d: %w", function, i, err)
			}
			if i%2 == 0 {
				if _, err := c.Write([]byte("GET / HTTP/1.1\r\nHost: h\r\nX-Slow:")); err != nil {
					return fmt.Errorf("%s: %w", function, err)
				}
			}
			go func() {
				_, _ = c.Read(make([]byte, 512)) // until the function closes it; an answer 408 may come first
				_ = c.Close()
				closed <- struct{}{}
			}()
		}
		good, err := wire.Load(ctx, base, 10, m.round, func(int) []byte { return wire.Request("GET", base+paths[function], nil, m.clients.next()) }, wire.Expect(200))
		if err != nil {
			return fmt.Errorf("%s, beside idle connections: %w", function, err)
		}
		for range held {
			select {
			case <-closed:
			case <-time.After(time.Minute):
				return fmt.Errorf("%s keeps connections that send nothing", function)
			}
		}
		peak, err := m.metric(ctx, function, "process_resident_memory_peak_bytes")
		if err != nil {
			return err
		}
		m.say("| %s | %s/s | %s | %s MiB | %s |", function, number(good.Rate), rounded(good.P99), number(peak/(1<<20)), rounded(time.Since(began)))
	}
	return nil
}

// rounded formats a duration with about three digits.
func rounded(d time.Duration) string {
	if d >= time.Second {
		return d.Round(10 * time.Millisecond).String()
	}
	return d.Round(100 * time.Microsecond).String()
}
