package load

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
)

// drain starts the event sources, watches count until it has grown by n, and returns the rate from the first growth to the last. So
// the time in which the consumer group forms does not count.
func (m *run) drain(ctx context.Context, n int, sinks map[string]string, count func() (float64, error)) (float64, error) {
	before, err := count()
	if err != nil {
		return 0, err
	}
	stop, err := m.startSources(ctx, sinks)
	if err != nil {
		return 0, err
	}
	defer stop()
	var first time.Time
	var start, now float64
	err = await(ctx, 10*time.Minute, func() (bool, error) {
		if now, err = count(); err != nil {
			return false, err
		}
		if first.IsZero() && now > before {
			first, start = time.Now(), now
		}
		return now >= before+float64(n), nil
	}, "the backlog was not drained in time")
	if err != nil {
		return 0, fmt.Errorf("%w (%.0f of %d)", err, now-before, n)
	}
	return (now - start) / time.Since(first).Seconds(), nil
}

// drainBacklog measures a backlog of good records from the KafkaSource to compute-ma, compared with the same to a no-op function.
func (m *run) drainBacklog(ctx context.Context) error {
	applied := func() (float64, error) {
		return m.metric(ctx, "compute-ma", "marketdata_compute_ma_events_total", `outcome="inserted"`)
	}
	received := func() (float64, error) {
		body, err := get(ctx, m.reference+"/count")
		if err != nil {
			return 0, err
		}
		defer body.Close() //nolint:errcheck // read
		b, err := io.ReadAll(body)
		if err != nil {
			return 0, fmt.Errorf("count: %w", err)
		}
		return strconv.ParseFloat(string(b), 64)
	}
	var rates, refs, ratios []float64
	for range max(1, m.rounds-2) {
		ref, err := m.drainOnce(ctx, map[string]string{"compute-ma": m.reference}, received)
		if err != nil {
			return fmt.Errorf("no-op: %w", err)
		}
		rate, err := m.drainOnce(ctx, nil, applied)
		if err != nil {
			return err
		}
		rates, refs, ratios = append(rates, rate), append(refs, ref), append(ratios, rate/ref)
	}
	m.noOp = median(refs)
	m.add(figure{
		what: fmt.Sprintf("backlog of %d records through the source into compute-ma", m.backlog), value: median(rates), unit: "events/s",
		reference: "no-op function: " + number(m.noOp), ratio: median(ratios), atLeast: 5000, minRatio: 0.5,
	})
	return nil
}

// drainOnce produces one backlog of new points and drains it.
func (m *run) drainOnce(ctx context.Context, sinks map[string]string, count func() (float64, error)) (float64, error) {
	m.seed++
	set := "B" + strconv.Itoa(m.seed) + "S"
	if err := m.produce(ctx, m.backlog, func(i int) *kafka.Message { return newEvent(set, i).message(m.env["PRICE_EVENTS_TOPIC"]) }); err != nil {
		return 0, err
	}
	return m.drain(ctx, m.backlog, sinks, count)
}

// storeLetters measures a flood of poison events: refused by compute-ma, written to the dead letter topic, stored by dlq-inspector.
func (m *run) storeLetters(ctx context.Context) error {
	err := m.produce(ctx, m.letters, func(i int) *kafka.Message { return poison("POISON", i).message(m.env["PRICE_EVENTS_TOPIC"]) })
	if err != nil {
		return err
	}
	stored := func() (n float64, err error) {
		if err := m.pool.QueryRow(ctx, "select count(*) from dead_letters").Scan(&n); err != nil {
			return 0, fmt.Errorf("count letters: %w", err)
		}
		return n, nil
	}
	rate, err := m.drain(ctx, m.letters, nil, func() (float64, error) {
		received, err := m.metric(ctx, "dlq-inspector", "marketdata_dead_letters_received_total")
		if err != nil || int(received) < m.letters {
			return received, err
		}
		return stored() // some may have been delivered twice; to count the rows all the time would slow the inspector down
	})
	if err != nil {
		return err
	}
	n, err := stored()
	if err != nil {
		return err
	}
	if int(n) != m.letters {
		return fmt.Errorf("%.0f letters were stored, want %d", n, m.letters)
	}
	f := figure{what: fmt.Sprintf("%d poison records, from topic to stored letter", m.letters), value: rate, unit: "letters/s", atLeast: 1500}
	if m.noOp > 0 {
		f.reference, f.ratio = "the source into a no-op function: "+number(m.noOp), rate/m.noOp
	}
	m.add(f)
	return nil
}
