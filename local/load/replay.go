package load

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
)

// replayLetters measures a bulk replay of letters with good events, as an outage leaves them.
func (m *run) replayLetters(ctx context.Context) error {
	rate, err := m.replayMany(ctx, "REPLAY", m.replays, func(int) error { return nil })
	if err != nil {
		return err
	}
	m.add(figure{what: fmt.Sprintf("bulk replay of %d letters to the function", m.replays), value: rate, unit: "letters/s", atLeast: 2000})
	return nil
}

// replayWithKills measures a bulk replay during which dlq-inspector is killed twice, and compute-ma once. Every letter is resolved, after
// at most one attempt for each kill and another, and the averages are exact.
func (m *run) replayWithKills(ctx context.Context) error {
	n, kills := 5*m.replays, []string{"dlq-inspector", "compute-ma", "dlq-inspector"}
	killed := 0
	rate, err := m.replayMany(ctx, "KILLED", n, func(done int) error {
		if killed == len(kills) || done < n*(killed+1)/(len(kills)+1) {
			return nil
		}
		killed++
		return m.kill(kills[killed-1])
	})
	if err != nil {
		return err
	}
	const q = `
		select (select count(*) from price_points where symbol like 'KILLED%'),
			(select count(*) from symbol_averages a where symbol like 'KILLED%' and average is distinct from (
				select avg(price) from (
					select price from price_points p where (symbol, provider) = (a.symbol, a.provider) order by observed_at desc limit a.points_used) newest)),
			(select max(n) from (select count(*) n from dead_letter_audit where action = 'replay' group by letter_id) letters)`
	var points, inexact, attempts int
	if err := m.pool.QueryRow(ctx, q).Scan(&points, &inexact, &attempts); err != nil {
		return fmt.Errorf("check: %w", err)
	}
	if points != n || inexact > 0 || killed < len(kills) || attempts > len(kills)+1 {
		return fmt.Errorf("after %d kills and %d attempts %d of %d points are stored, and %d averages are wrong", killed, attempts, points, n, inexact)
	}
	m.add(figure{what: fmt.Sprintf("bulk replay of %d letters with the inspector killed twice and compute-ma once", n), value: rate, unit: "letters/s", atLeast: 2000})
	return nil
}

// replayMany makes letters of n events of a set, and replays them. It calls watch with the number of letters that are done.
func (m *run) replayMany(ctx context.Context, set string, n int, watch func(done int) error) (rate float64, err error) {
	header := func(name, value string) kafka.Header { return kafka.Header{Key: name, Value: []byte(value)} }
	topic := "elsewhere-" + set // not one that copies can be sent to
	if err := m.produce(ctx, n, func(i int) *kafka.Message {
		return newEvent(set, i).message(m.env["DEAD_LETTER_TOPIC"], header("dlq-code", "storage_unavailable"), header("dlq-reason", "the database did not answer"),
			header("dlq-topic", topic), header("dlq-partition", "0"), header("dlq-offset", strconv.Itoa(i)))
	}); err != nil {
		return 0, err
	}
	if _, err := m.drain(ctx, n, nil, func() (float64, error) {
		return m.metric(ctx, "dlq-inspector", "marketdata_dead_letters_received_total")
	}); err != nil {
		return 0, err
	}
	stop, err := m.startSources(ctx, nil) // ticks drive the replay
	if err != nil {
		return 0, err
	}
	defer stop()
	// Making letters searchable belongs to their arrival.
	err = await(ctx, 10*time.Minute, func() (indexed bool, err error) {
		return indexed, m.pool.QueryRow(ctx, "select not exists (select from dead_letters_to_index)").Scan(&indexed)
	}, "the letters did not become searchable in time")
	if err != nil {
		return 0, err
	}
	began := time.Now()
	progress, err := m.dlq(ctx, http.MethodPost, "/dlq/replays", map[string]any{"filter": map[string]any{"topic": topic}, "rate_per_second": replayRate})
	if err != nil {
		return 0, err
	}
	id := progress.ID
	err = await(ctx, 5*time.Minute, func() (bool, error) {
		const q = "select status, outcomes from dead_letter_replays where id = $1" // not from the inspector, which may be starting
		if err := m.pool.QueryRow(ctx, q, id).Scan(&progress.Status, &progress.Outcomes); err != nil {
			return false, fmt.Errorf("progress: %w", err)
		}
		return progress.Status != "running", watch(progress.Outcomes["resolved"])
	}, "the replay did not end in time")
	if err != nil {
		return 0, fmt.Errorf("%w (%v)", err, progress)
	}
	if progress.Outcomes["resolved"] != n {
		return 0, fmt.Errorf("not all of %d letters were resolved: %v", n, progress)
	}
	return float64(n) / time.Since(began).Seconds(), nil
}

// kill ends the process of a function without warning. The stack starts another.
func (s *system) kill(name string) error {
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return fmt.Errorf("find %s: %w", name, err)
	}
	for _, line := range lines {
		text, err := os.ReadFile(line) //nolint:gosec // of the kernel
		if program, _, _ := strings.Cut(string(text), "\x00"); err != nil || program != filepath.Join(s.dir, "bin", name) {
			continue // also a process that has ended
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(line)))
		if err != nil {
			return fmt.Errorf("find %s: %w", name, err)
		}
		return syscall.Kill(pid, syscall.SIGKILL)
	}
	return errors.New("there is no process of " + name)
}

// replayRate is the highest rate that a bulk replay accepts.
const replayRate = 10000

type replayProgress struct {
	ID       string         `json:"id"`
	Status   string         `json:"status"`
	Outcomes map[string]int `json:"outcomes"`
}

// dlq calls a route of dlq-inspector as an operator.
func (m *run) dlq(ctx context.Context, method, path string, body any) (replayProgress, error) {
	var answer replayProgress
	b, err := json.Marshal(body)
	if err != nil {
		return answer, fmt.Errorf("encode: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, method, m.env[variable("dlq-inspector")]+path, bytes.NewReader(b))
	if err != nil {
		return answer, fmt.Errorf("call dlq-inspector: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+m.env["DLQ_TOKEN"])
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return answer, fmt.Errorf("call dlq-inspector: %w", err)
	}
	defer resp.Body.Close() //nolint:errcheck // read
	if resp.StatusCode >= 300 {
		return answer, fmt.Errorf("%s %s: status %d", method, path, resp.StatusCode)
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return answer, fmt.Errorf("decode: %w", err)
	}
	return answer, nil
}
