package load

import (
	"context"
	"fmt"
	"net"
	"time"

	"marketdata/shared/testenv/wire"
)

// holdConnections opens many connections to each function that send nothing, half of a header, or half of a body. Until each of the latter
// has had a seat for a second, good requests may be refused; then it watches them.
func (m *run) holdConnections(ctx context.Context) error {
	const held = 10_000
	halves := []string{"", "GET / HTTP/1.1\r\nHost: h\r\nX-Slow:", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nhalf"}
	m.say("\n| %d connections that send nothing, or half of a request | calm after | good requests | p99 | memory at most | closed after |\n|---|---|---|---|---|---|", held)
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
			if _, err := c.Write([]byte(halves[i%len(halves)])); err != nil {
				return fmt.Errorf("%s: %w", function, err)
			}
			go func() {
				_, _ = c.Read(make([]byte, 512)) // until the function closes it; an answer may come first
				_ = c.Close()
				closed <- struct{}{}
			}()
		}
		next := func(int) []byte { return wire.Request("GET", base+paths[function], nil, m.clients.next()) }
		calm, err := m.recovery(ctx, base, flooded{next: next})
		if err != nil {
			return fmt.Errorf("%s, beside idle connections: %w", function, err)
		}
		if calm > recoverWithin {
			return fmt.Errorf("%s, beside idle connections, was calm only after %s", function, rounded(calm))
		}
		good, err := wire.Load(ctx, base, 10, m.round, next, wire.Expect(200))
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
		m.say("| %s | %s | %s/s | %s | %s MiB | %s |", function, rounded(calm), number(good.Rate), rounded(good.P99), number(peak/(1<<20)), rounded(time.Since(began)))
	}
	return nil
}
