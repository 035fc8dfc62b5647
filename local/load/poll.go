package load

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"marketdata/shared/testenv/wire"
)

// pollJobs measures many jobs that share symbols: how often a symbol is fetched in a period, and how late the last run is.
func (m *run) pollJobs(ctx context.Context) error {
	if err := m.createJobs(ctx); err != nil {
		return err
	}
	stop, err := m.startSources(ctx, nil)
	if err != nil {
		return err
	}
	defer stop()
	// The first period counts, too. It is the worst, because all jobs are due at once.
	began := time.Now()
	watched := time.Duration(m.periods) * m.interval
	calls, err := m.calls(ctx)
	if err != nil {
		return err
	}
	var atEnd int
	var peak float64
	err = await(ctx, watched+time.Minute, func() (bool, error) {
		rss, err := m.metric(ctx, "poll", "process_resident_memory_bytes")
		peak = max(peak, rss)
		if time.Since(began) < watched || err != nil {
			return false, err
		}
		atEnd, err = m.calls(ctx)
		return true, err
	}, "the jobs did not run in time")
	if err != nil {
		return err
	}
	var runs int
	var late float64
	const q = "select count(*), coalesce(max(extract(epoch from finished_at - greatest(scheduled_at, $1))), 0)::float8 from polling_runs"
	if err := m.pool.QueryRow(ctx, q, began).Scan(&runs, &late); err != nil {
		return fmt.Errorf("read runs: %w", err)
	}
	jobs := fmt.Sprintf("poll, %d jobs over %d symbols at %s", m.jobs, m.symbols, m.interval)
	m.add(figure{
		what: jobs + ": runs recorded", value: float64(runs), reference: fmt.Sprintf("watched for %d periods", m.periods),
		atLeast: float64(m.jobs * (m.periods - 1)), // the last period may not be over
	})
	m.add(figure{
		// The number of periods that begin in the meantime depends on how long it took to create the jobs, so the runs are counted.
		what: jobs + ": fetches for one run of each", value: float64((atEnd-calls)*m.jobs) / float64(max(runs, 1)),
		reference: "one for each symbol: " + strconv.Itoa(m.symbols),
		atMost:    float64(m.symbols) * 1.05, // the last period may be cut off
	})
	m.add(figure{what: jobs + ": last run after due", value: late, unit: "s", atMost: 10})
	m.add(figure{what: jobs + ": RSS at most", value: peak / (1 << 20), unit: "MiB", atMost: 64})
	return nil
}

// createJobs creates the jobs over HTTP, with as many clients as the limit requires.
func (m *run) createJobs(ctx context.Context) error {
	target := m.env[variable("poll")] + "/prices/poll"
	var n atomic.Int64
	_, err := wire.Load(ctx, target, 20, 5*time.Minute, func(i int) []byte {
		if i >= m.jobs {
			return nil
		}
		body, err := json.Marshal(map[string]any{
			"symbols": []string{"LOAD" + strconv.Itoa(i%m.symbols)}, "interval": int(m.interval.Seconds()), "provider": "yfinance",
		})
		if err != nil {
			panic(err) // impossible: a map of strings and numbers
		}
		c := n.Add(1) / 10 // RATE_LIMIT_POLL
		return wire.Request("POST", target, body, "Content-Type: application/json", fmt.Sprintf("X-Forwarded-For: 10.1.%d.%d", c>>8&255, c&255))
	}, wire.Expect(http.StatusAccepted))
	return err
}

// calls returns the number of calls that the exchange has received.
func (m *run) calls(ctx context.Context) (int, error) {
	body, err := get(ctx, m.env["EXCHANGE_URL"]+"/_admin/calls?provider=yfinance")
	if err != nil {
		return 0, err
	}
	defer body.Close() //nolint:errcheck // read
	var answer struct {
		Calls int `json:"calls"`
	}
	if err := json.NewDecoder(body).Decode(&answer); err != nil {
		return 0, fmt.Errorf("decode calls: %w", err)
	}
	return answer.Calls, nil
}
