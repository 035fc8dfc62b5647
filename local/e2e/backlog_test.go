//go:build integration

package e2e

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math/big"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"marketdata/shared/testenv"
)

const backlogSymbols = 100

// A backlog with poison records is processed while every process of the path is killed repeatedly. Each good record is applied, and
// each poison record becomes one letter, byte for byte.
func TestBacklogSurvivesKills(t *testing.T) {
	t.Parallel()
	good := testenv.Size(t, "E2E_BACKLOG", 20_000)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	s := startParts(t, newDir(t), "services,exchange,functions")
	messages, averages, poison := backlog(random, good)
	s.produce(t, messages...)
	sources := &sourceProcess{stack: s}
	t.Cleanup(sources.kill)
	sources.start(t)

	began := time.Now()
	kills := 0
	// Delays of retries are whole seconds from a kill, so kills at whole seconds would hit the same events again and again.
	pause := func() time.Duration { return time.Second + time.Duration(random.Int64N(int64(2*time.Second))) }
	kill, calm, deadline := time.After(pause()), time.After(time.Minute), time.After(4*time.Minute)
	for look := time.NewTicker(200 * time.Millisecond); ; {
		done := s.rows(t, "select (select count(*) from price_points)::text || ' ' || (select count(*) from dead_letters)")
		if done[0] == fmt.Sprint(good, " ", len(poison)) {
			break
		}
		select {
		case <-look.C:
		case <-kill:
			if kills++; kills == 2 || kills == 12 { // rarely: a new member waits 10 s until the group has removed the dead one
				sources.kill()
				sources.start(t)
			} else {
				s.killOne(t, []string{"compute-ma", "dlq-inspector"}[random.IntN(2)])
			}
			kill = time.After(pause())
		case <-calm:
			kill = nil
		case <-deadline:
			require.Failf(t, "not done", "after %d kills: points and letters are %s", kills, done)
		}
	}
	t.Logf("%d good and %d poison records with %d kills in %s", good, len(poison), kills, time.Since(began).Round(time.Second))
	require.Equal(t, averages, s.rows(t, `
		select format('%s %s %s', symbol, window_size, trim_scale(average))
		from symbol_averages order by symbol collate "C", window_size`))
	letters := s.rows(t, "select convert_from(value, 'UTF8') from dead_letters")
	slices.Sort(letters)
	require.Equal(t, poison, letters)
}

// backlog returns good records mixed with a hundredth as many poison records, the expected averages, and the sorted values of the
// poison records.
func backlog(random *rand.Rand, good int) (messages []*kafka.Message, averages, poison []string) {
	points := map[string][]int64{} // prices in cents, by time
	for i := range good {
		symbol, at := fmt.Sprintf("B%02d", i%backlogSymbols), time.Unix(1_700_000_000+int64(i/backlogSymbols), 0).UTC()
		var id uuid.UUID
		binary.BigEndian.PutUint64(id[8:], uint64(i))
		cents := 1 + random.Int64N(100_000)
		points[symbol] = append(points[symbol], cents)
		messages = append(messages, event(symbol, fmt.Sprintf("%d.%02d", cents/100, cents%100), at.Format(time.RFC3339), "yfinance", id))
		if i%100 == 50 {
			bad := event(symbol, strconv.Quote(strconv.Itoa(i)), at.Format(time.RFC3339), "yfinance", id) // a price that is a string
			poison = append(poison, string(bad.Value))
			messages = append(messages, bad)
		}
	}
	random.Shuffle(len(messages), func(i, j int) { messages[i], messages[j] = messages[j], messages[i] })
	for _, symbol := range slices.Sorted(maps.Keys(points)) {
		for _, window := range []int64{5, 20, 50} {
			all := points[symbol]
			sum := int64(0)
			for _, cents := range all[len(all)-int(window):] {
				sum += cents
			}
			mean := big.NewRat(sum, 100*window)
			digits, _ := mean.FloatPrec() // with windows of 5, 20 and 50 every expansion ends
			averages = append(averages, fmt.Sprintf("%s %d %s", symbol, window, mean.FloatString(digits)))
		}
	}
	slices.Sort(poison)
	return messages, averages, poison
}

// killOne kills a function's process; the supervisor restarts it.
func (s *stack) killOne(t *testing.T, function string) {
	t.Helper()
	for _, pid := range s.pids(t, function) {
		_ = syscall.Kill(pid, syscall.SIGKILL) // it may be gone already, after the previous kill
	}
}

// sourceProcess runs the event sources as a separate process, so that they can be killed alone.
type sourceProcess struct {
	stack *stack
	cmd   *exec.Cmd
	n     int
}

func (p *sourceProcess) start(t *testing.T) {
	t.Helper()
	p.n++
	dir := filepath.Join(p.stack.dir, fmt.Sprint("sources-", p.n))
	knative, err := filepath.Abs("../../knative")
	require.NoError(t, err)
	p.cmd = exec.Command(filepath.Join(p.stack.dir, "bin", "local"), "-only=sources")
	p.cmd.Env = append(os.Environ(), "LOCAL_STACK=", "DEMO=0", "LOCAL_DIR="+dir, "KNATIVE_DIR="+knative)
	for name, value := range p.stack.env {
		if name != "LOCAL_STACK" && !strings.HasSuffix(name, "_URLS") {
			p.cmd.Env = append(p.cmd.Env, name+"="+value)
		}
	}
	p.cmd.Stdout, p.cmd.Stderr = p.stack.out, p.stack.out
	require.NoError(t, p.cmd.Start())
}

func (p *sourceProcess) kill() {
	_ = p.cmd.Process.Kill() // it may be gone already
	_ = p.cmd.Wait()         // killed
}
