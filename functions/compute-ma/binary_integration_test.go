//go:build integration

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"marketdata/functions/compute-ma/internal/model"
	"marketdata/shared/kafkaclient"
	"marketdata/shared/postgres"
	"marketdata/shared/priceevent"
	"marketdata/shared/testenv"
)

// windows are the MA_WINDOWS of the binaries.
var windows = []int{2, 5, 20, 50}

// binary is one copy of the built function, on a port that it keeps over restarts.
type binary struct {
	path string
	url  string
	env  []string
	mu   sync.Mutex
	cmd  *exec.Cmd
	out  bytes.Buffer
}

func startBinary(t *testing.T, databaseURL string, brokers kafkaclient.Config, topics priceevent.Topics, extra ...string) *binary {
	t.Helper()
	bin := os.Getenv("E2E_BIN_DIR") //nolint:forbidigo // where 'make test' has put the binaries
	require.NotEmpty(t, bin, "E2E_BIN_DIR is not set: run 'make test', which builds the binaries first")
	port := testenv.FreePort(t)
	b := &binary{path: filepath.Join(bin, "compute-ma"), url: fmt.Sprintf("http://127.0.0.1:%d/", port), env: append(slices.Concat(os.Environ(), brokers.Environ(), topics.Environ(), extra),
		"HOST=127.0.0.1", fmt.Sprint("PORT=", port), "DATABASE_URL="+databaseURL+"&application_name=binary", "MA_WINDOWS=2,5,20,50")}
	b.start(t)
	t.Cleanup(func() {
		_ = b.cmd.Process.Kill()
		_ = b.cmd.Wait()
		if t.Failed() {
			t.Log(b.out.String())
		}
	})
	return b
}

func (b *binary) start(t *testing.T) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cmd = exec.Command(b.path)
	b.cmd.Env, b.cmd.Stdout, b.cmd.Stderr = b.env, &b.out, &b.out
	require.NoError(t, b.cmd.Start())
	require.Eventually(t, func() bool {
		resp, err := http.Get(b.url + "healthz")
		if err == nil {
			_ = resp.Body.Close()
		}
		return err == nil
	}, 10*time.Second, 2*time.Millisecond)
}

// kill ends the process as a lost node would, and waits until it is gone.
func (b *binary) kill(t *testing.T) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	require.NoError(t, b.cmd.Process.Kill())
	require.Error(t, b.cmd.Wait(), "killed")
}

// post delivers an event as a KafkaSource does; 0: no answer.
func (b *binary) post(ctx context.Context, body []byte, correction int) int {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, b.url, bytes.NewReader(body))
	if err != nil {
		return 0
	}
	req.Header = http.Header{
		"Ce-Specversion": {"1.0"}, "Ce-Id": {"1"}, "Ce-Source": {"/test"}, "Ce-Type": {priceevent.Type}, "Content-Type": {"application/json"},
		"Ce-Kafkatopic": {"price-events"}, "Ce-Knativekafkapartition": {"0"}, "Ce-Knativekafkaoffset": {"1"},
	}
	if correction > 0 {
		req.Header.Set("Ce-Correction", strconv.Itoa(correction))
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	return resp.StatusCode
}

func encoded(t *testing.T, o priceevent.Observation) []byte {
	t.Helper()
	m, err := priceevent.Encode(o)
	require.NoError(t, err)
	return m.Value
}

// The promise of design.md section 6 for the program as it is deployed: copies that are killed at any instant, callers
// that go away, repeated deliveries and poison in between leave what the model says, and every poison in the dead letter
// topic byte for byte.
func TestRandomSchedulesWithTheBuiltBinary(t *testing.T) {
	t.Parallel()
	const schedules = 50
	url, kafka := testenv.PostgresURL(t), testenv.Kafka(t)
	pool, err := postgres.Open(t.Context(), url)
	require.NoError(t, err)
	defer pool.Close()
	topics := testenv.Topics(t, kafka)
	copies := []*binary{startBinary(t, url, kafka, topics), startBinary(t, url, kafka, topics)}
	var poison [][]byte
	for i := range schedules {
		rng := rand.New(rand.NewPCG(uint64(i), 99))
		prefix := fmt.Sprintf("B%d", i)
		events := model.Events(t, rng, prefix)
		bodies := make([]delivery, 0, 2*len(events))
		for _, o := range events {
			bodies = append(bodies, delivery{encoded(t, o), o.Correction})
		}
		for range rng.IntN(len(events) + 1) {
			bodies = append(bodies, bodies[rng.IntN(len(events))])
		}
		for range 1 + rng.IntN(3) {
			junk := append([]byte(uuid.NewString()), randomBytes(rng, rng.IntN(200))...)
			poison = append(poison, junk)
			bodies = append(bodies, delivery{junk, 0})
		}
		rng.Shuffle(len(bodies), func(i, j int) { bodies[i], bodies[j] = bodies[j], bodies[i] })
		playBinary(t, rng, copies, bodies)
		require.Equal(t, model.Tables(events, windows), model.Dump(t, pool, prefix), "seed %d", i)
	}
	requireDeadLettered(t, kafka, topics.DeadLetters, poison)
}

type delivery struct {
	body       []byte
	correction int
}

func randomBytes(rng *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.IntN(256))
	}
	return b
}

func playBinary(t *testing.T, rng *rand.Rand, copies []*binary, all []delivery) {
	t.Helper()
	killAt := rng.IntN(len(all))
	inFlight := make(chan struct{}, 16)
	var wg sync.WaitGroup
	for i, d := range all {
		inFlight <- struct{}{}
		goesAway, patience := rng.IntN(8) == 0, time.Duration(rng.IntN(3000))*time.Microsecond
		first, second := copies[rng.IntN(2)], copies[rng.IntN(2)]
		wg.Go(func() {
			defer func() { <-inFlight }()
			if goesAway {
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				first.post(ctx, d.body, d.correction)
				cancel()
			}
			for second.post(context.Background(), d.body, d.correction) != http.StatusNoContent {
				second = copies[(slices.Index(copies, second)+1)%2]
			}
		})
		if i == killAt {
			victim := copies[rng.IntN(2)]
			victim.kill(t)
			victim.start(t)
		}
	}
	wg.Wait()
}

// requireDeadLettered reads the dead letter topic until every poison was seen with its very bytes.
func requireDeadLettered(t *testing.T, kafka kafkaclient.Config, topic string, poison [][]byte) {
	t.Helper()
	missing := map[string]bool{}
	for _, p := range poison {
		missing[string(p)] = true
	}
	testenv.EachRecord(t, kafka, topic, func(value []byte) (more bool) {
		delete(missing, string(value))
		return len(missing) > 0
	})
}

// SIGKILL at each step of a transaction: the step is held by a table lock from outside. What was not acknowledged may or
// may not be there; once it is delivered again, the tables are what the model says.
func TestKilledAtEachStepOfATransaction(t *testing.T) {
	t.Parallel()
	for step, lock := range map[string]string{
		"points": "price_points in access exclusive mode", "lock of the series": "price_series in access exclusive mode", "averages": "price_series in share mode",
	} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			url := testenv.PostgresURL(t)
			pool, err := postgres.Open(t.Context(), url)
			require.NoError(t, err)
			defer pool.Close()
			kafka := testenv.Kafka(t)
			b := startBinary(t, url, kafka, testenv.Topics(t, kafka))
			events := []priceevent.Observation{
				model.Observation("A", model.Instant, model.Prices(t, "10")[0]), model.Observation("B", model.Instant, model.Prices(t, "7")[0]),
				model.Observation("A", model.Instant.Add(time.Second), model.Prices(t, "20")[0]), model.Observation("B", model.Instant.Add(time.Second), model.Prices(t, "8")[0]),
			}
			for _, o := range events[:2] {
				require.Equal(t, http.StatusNoContent, b.post(t.Context(), encoded(t, o), 0))
			}

			release := lockTable(t, pool, lock)
			answers := make(chan int, len(events))
			for _, o := range events[2:] {
				body := encoded(t, o)
				go func() { answers <- b.post(context.Background(), body, 0) }()
			}
			awaitLockWait(t, pool)
			require.Empty(t, answers, "nothing is acknowledged before its commit")
			b.kill(t)
			for range events[2:] {
				require.Zero(t, <-answers)
			}
			release()
			b.start(t)
			for _, o := range events {
				require.Equal(t, http.StatusNoContent, b.post(t.Context(), encoded(t, o), 0))
			}
			require.Equal(t, model.Tables(events, windows), model.Dump(t, pool, ""))
		})
	}
}

// lockTable holds a table from outside until release.
func lockTable(t *testing.T, pool *pgxpool.Pool, lock string) (release func()) {
	t.Helper()
	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "lock table "+lock)
	require.NoError(t, err)
	return func() { require.NoError(t, tx.Rollback(context.WithoutCancel(t.Context()))) }
}

// awaitLockWait returns once a statement of the binary waits for a lock.
func awaitLockWait(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	require.Eventually(t, func() bool {
		var waiting int
		err := pool.QueryRow(t.Context(), `select count(*) from pg_stat_activity
			where application_name = 'binary' and datname = current_database() and wait_event_type = 'Lock'`).Scan(&waiting)
		return err == nil && waiting > 0
	}, 10*time.Second, 5*time.Millisecond)
}

// SIGTERM while a commit is held up: what is in flight is committed and acknowledged, then the process ends with 0.
func TestSIGTERMFinishesWhatIsInFlight(t *testing.T) {
	t.Parallel()
	url := testenv.PostgresURL(t)
	pool, err := postgres.Open(t.Context(), url)
	require.NoError(t, err)
	defer pool.Close()
	kafka := testenv.Kafka(t)
	b := startBinary(t, url, kafka, testenv.Topics(t, kafka))
	release := lockTable(t, pool, "price_series in access exclusive mode")
	const n = 40
	answers := make(chan int, n)
	var events []priceevent.Observation
	for i := range n {
		o := model.Observation(fmt.Sprint("S", i%7), model.Instant.Add(time.Duration(i)*time.Second), model.Prices(t, fmt.Sprint(i+1))[0])
		events = append(events, o)
		body := encoded(t, o)
		go func() { answers <- b.post(context.Background(), body, 0) }()
	}
	// All are in: in the commit that hangs, or waiting for the next.
	require.Eventually(t, func() bool { return inFlight(t, b) == n }, 10*time.Second, 5*time.Millisecond)
	require.NoError(t, b.cmd.Process.Signal(syscall.SIGTERM))
	require.Eventually(t, func() bool { return b.post(t.Context(), nil, 0) == 0 }, 10*time.Second, 5*time.Millisecond, "takes nothing new")
	release()
	for range n {
		require.Equal(t, http.StatusNoContent, <-answers)
	}
	require.NoError(t, b.cmd.Wait())
	require.Equal(t, model.Tables(events, windows), model.Dump(t, pool, ""))
}

// inFlight reads the gauge of events that the function has taken in and not answered.
func inFlight(t *testing.T, b *binary) int {
	t.Helper()
	resp, err := http.Get(b.url + "metrics")
	require.NoError(t, err)
	defer resp.Body.Close() //nolint:errcheck // read whole
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	for _, line := range strings.Split(string(text), "\n") {
		if value, found := strings.CutPrefix(line, "marketdata_compute_ma_events_in_flight "); found {
			n, err := strconv.Atoi(value)
			require.NoError(t, err)
			return n
		}
	}
	return 0
}

// A dead letter that the broker has not acknowledged does not count: neither an answer nor a kill may lose the event.
func TestKilledWhileTheBrokerIsStalled(t *testing.T) {
	t.Parallel()
	topics := priceevent.DefaultTopics
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, topics.DeadLetters, topics.Events))
	require.NoError(t, err)
	t.Cleanup(broker.Close)
	kafka := kafkaclient.At(strings.Join(broker.ListenAddrs(), ","))
	kafka.Properties["security.protocol"] = "plaintext" // whatever the other tests' brokers need
	goesOn, reached := make(chan struct{}), make(chan struct{}, 100)
	broker.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		reached <- struct{}{}
		broker.SleepControl(func() { <-goesOn })
		return nil, nil, false
	})
	b := startBinary(t, testenv.PostgresURL(t), kafka, topics)
	poison := []byte("\x00\xffpoison")
	answer := make(chan int, 1)
	go func() { answer <- b.post(context.Background(), poison, 0) }()
	<-reached
	require.Never(t, func() bool { return len(answer) > 0 }, 200*time.Millisecond, 10*time.Millisecond, "answered without the broker's acknowledgement")
	good := model.Observation("GOOD", model.Instant, model.Prices(t, "5")[0])
	require.Equal(t, http.StatusNoContent, b.post(t.Context(), encoded(t, good), 0), "poison holds up nobody")
	b.kill(t)
	require.Zero(t, <-answer)
	close(goesOn)
	b.start(t)
	require.Equal(t, http.StatusNoContent, b.post(t.Context(), poison, 0))
	requireDeadLettered(t, kafka, topics.DeadLetters, [][]byte{poison})
}
