package load

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"marketdata/shared/freeport"
	"marketdata/shared/testenv/wire"
)

// inFlight is the number of requests in flight, as at one busy replica.
const inFlight = 50

// clients returns client addresses, each as often as the default limit allows. So the limiter does its work for every request without
// refusing any, and the size of one client's log does not matter.
type clients struct{ n atomic.Int64 }

func (c *clients) next() string {
	n := c.n.Add(1) / 5 // RATE_LIMIT_LATEST
	return fmt.Sprintf("X-Forwarded-For: 10.%d.%d.%d", n>>16&255, n>>8&255, n&255)
}

// compare measures a program and its reference in alternating rounds after a warm-up round. It returns the median rates and the
// median of the rounds' ratios.
func (m *run) compare(ctx context.Context, own, reference func() (wire.Result, error)) (rate, refRate, ratio float64, err error) {
	var rates, refs, ratios []float64
	for i := range m.rounds + 1 {
		a, err := reference()
		if err != nil {
			return 0, 0, 0, fmt.Errorf("reference: %w", err)
		}
		b, err := own()
		if err != nil {
			return 0, 0, 0, err
		}
		if ctx.Err() != nil {
			return 0, 0, 0, context.Cause(ctx)
		}
		if i > 0 {
			rates, refs, ratios = append(rates, b.Rate), append(refs, a.Rate), append(ratios, b.Rate/a.Rate)
		}
	}
	return median(rates), median(refs), median(ratios), nil
}

// hit measures requests for a cached price.
func (m *run) hit(ctx context.Context) error {
	own := m.env[variable("get-latest")] + "/prices/latest?symbol=AAPL&provider=yfinance"
	reference := m.reference + "/hit"
	if err := m.redis.Set(ctx, hitKey, `{"symbol":"AAPL","price":150.25,"timestamp":"2024-03-20T10:30:00Z","provider":"yfinance"}`, 0).Err(); err != nil {
		return fmt.Errorf("store the price of the reference: %w", err)
	}
	hits := func(target string) func() (wire.Result, error) {
		return func() (wire.Result, error) {
			return wire.Load(ctx, target, inFlight, m.round, func(int) []byte { return wire.Request("GET", target, nil, m.clients.next()) }, wire.Expect(200))
		}
	}
	rate, ref, ratio, err := m.compare(ctx, hits(own), hits(reference))
	if err != nil {
		return err
	}
	m.add(figure{what: "get-latest, cache hits", value: rate, unit: "/s", reference: "script + GET behind net/http: " + number(ref), ratio: ratio, minRatio: 0.80})
	return nil
}

// miss measures requests for prices that are not cached: fetched, stored, published.
func (m *run) miss(ctx context.Context) error {
	var symbol atomic.Int64
	misses := func(base string) func() (wire.Result, error) {
		return func() (wire.Result, error) {
			return wire.Load(ctx, base, inFlight, m.round, func(int) []byte {
				return wire.Request("GET", base+"LOAD"+strconv.FormatInt(symbol.Add(1)%missSymbols, 10), nil, m.clients.next())
			}, func(status int, cache string) error {
				if status != 200 || cache != "" && cache != "MISS" {
					return fmt.Errorf("status %d, X-Cache %q", status, cache)
				}
				return nil
			})
		}
	}
	rate, ref, ratio, err := m.compare(ctx, misses(m.env[variable("get-latest")]+"/prices/latest?provider=yfinance&symbol="), misses(m.reference+"/miss?symbol="))
	if err != nil {
		return err
	}
	m.add(figure{what: "get-latest, misses", value: rate, unit: "/s", reference: "fetch + one insert behind net/http: " + number(ref), ratio: ratio, atLeast: 1500})
	return nil
}

// computeMA measures events that are posted directly to the function.
func (m *run) computeMA(ctx context.Context) error {
	own, n := m.env[variable("compute-ma")]+"/", atomic.Int64{}
	events := func(target string) func() (wire.Result, error) {
		return func() (wire.Result, error) {
			return wire.Load(ctx, target, inFlight, m.round, func(int) []byte {
				e := newEvent("DIRECT", int(n.Add(1)))
				return wire.Request("POST", target, e.value, e.lines()...)
			}, wire.Expect(204))
		}
	}
	rate, ref, ratio, err := m.compare(ctx, events(own), events(m.reference+"/"))
	if err != nil {
		return err
	}
	m.add(figure{what: "compute-ma, 50 in flight, 100 symbols", value: rate, unit: "events/s", reference: "no-op POST: " + number(ref), ratio: ratio, minRatio: 0.36})
	return nil
}

// memory reports the resident memory of each function and its peak, from the function's metrics.
func (m *run) memory(ctx context.Context) error {
	const mib = 1 << 20
	for _, name := range functions {
		now, err := m.metric(ctx, name, "process_resident_memory_bytes")
		if err != nil {
			return err
		}
		peak, err := m.metric(ctx, name, "process_resident_memory_peak_bytes")
		if err != nil {
			return err
		}
		m.add(figure{what: "RSS of " + name + " after all rows", value: now / mib, unit: "MiB", reference: "peak: " + number(peak/mib) + " MiB", atMost: 64})
	}
	return nil
}

// startReference starts the reference servers as a separate process.
func (m *run) startReference(ctx context.Context) (stop func(), err error) {
	port, err := freeport.Find(ctx)
	if err != nil {
		return nil, err
	}
	address := fmt.Sprint("127.0.0.1:", port)
	m.reference = "http://" + address
	stop, err = m.spawn(ctx, "reference", m.dir, []string{
		"REDIS_URL=" + m.env["REDIS_URL"], "DATABASE_URL=" + m.env["DATABASE_URL"], "EXCHANGE_URL=" + m.env["EXCHANGE_URL"],
	}, m.bin+"/local", "load", "-reference", address)
	if err != nil {
		return nil, err
	}
	err = await(ctx, 10*time.Second, func() (bool, error) {
		body, err := get(ctx, m.reference+"/healthz")
		if err != nil {
			return false, nil //nolint:nilerr // not yet
		}
		return true, body.Close()
	}, "the reference servers did not start in time")
	if err != nil {
		stop()
		return nil, err
	}
	return stop, nil
}
