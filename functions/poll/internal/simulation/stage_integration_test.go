//go:build integration

package simulation_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"marketdata/shared/kafkaclient"
	"marketdata/shared/postgres/migrate"
	"marketdata/shared/testenv"
)

// stage is what lives outside of the fake clock: a database, and the built compute-ma. Simulations use it one after the other.
type stage struct {
	url     string // of the database
	address string // of compute-ma
	out     bytes.Buffer
	client  http.Client
	mu      sync.Mutex
	kill    func() // compute-ma; nil: it is dead
	// A simulation hands over what compute-ma is to get. The channels are made outside of its bubble, so that its clock stands still until
	// everything is delivered.
	deliver   chan []kafkaclient.Record
	delivered chan error
}

// clock makes a database tell the simulated time. The SQL of the functions and of the migrations calls now() without a schema, so the
// function that comes first in the search path answers: with the time of the session, which a replica sets, or else the real one. Sessions
// are short here, and plans are half of what they cost: each statement is planned once in a session, not five times.
const clock = `
	create schema simulated;
	create function simulated.now() returns timestamptz language sql stable as
		$$ select coalesce(nullif(pg_catalog.current_setting('simulated.time', true), '')::timestamptz, pg_catalog.now()) $$;
	do $$ begin
		execute format('alter database %I set search_path = simulated, public, pg_catalog', current_database());
		execute format('alter database %I set plan_cache_mode = force_generic_plan', current_database());
	end $$;`

func newStage(t *testing.T) *stage {
	t.Helper()
	s := &stage{deliver: make(chan []kafkaclient.Record), delivered: make(chan error)}
	s.url = newDatabase(t)
	s.address = fmt.Sprintf("127.0.0.1:%d", testenv.FreePort(t))
	s.client.Transport = &http.Transport{MaxIdleConnsPerHost: atOnce}
	t.Cleanup(s.client.CloseIdleConnections)
	require.NotEmpty(t, binaries, "E2E_BIN_DIR is not set: run 'make sim', which builds the programs first")
	require.NoError(t, s.start())
	t.Cleanup(func() {
		close(s.deliver)
		s.die()
		if t.Failed() {
			t.Log(s.out.String())
		}
	})
	go func() {
		for records := range s.deliver {
			s.delivered <- s.post(records)
		}
	}()
	return s
}

func newDatabase(t *testing.T) (database string) {
	t.Helper()
	server := os.Getenv("DATABASE_URL") //nolint:forbidigo // where 'make test' has started it
	require.NotEmpty(t, server, "DATABASE_URL is not set: run 'make sim', which starts the services")
	u, err := url.Parse(server)
	require.NoError(t, err)
	name := "simulation_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	u.Path = "/" + name
	execute(t, server, "create database "+name)
	t.Cleanup(func() { execute(t, server, "drop database "+name+" with (force)") })
	execute(t, u.String(), clock)
	require.NoError(t, migrate.Up(t.Context(), u.String()))
	return u.String()
}

func execute(t *testing.T, url, query string) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	conn, err := pgx.Connect(ctx, url)
	require.NoError(t, err)
	defer conn.Close(ctx) //nolint:errcheck // nothing depends on it
	_, err = conn.Exec(ctx, query)
	require.NoError(t, err)
}

// clear makes the database as it was in the beginning. Truncating would make new files for all partitions and indexes, which takes longer
// than deleting what a simulation has written.
func (s *stage) clear(t *testing.T) {
	t.Helper()
	var all string
	for _, table := range []string{
		"backfills", "backfill_series", "bar_series", "raw_responses", "outbox", "price_points", "price_series", "polling_jobs", "polling_runs",
		"polling_results", "polling_series", "polling_idempotency_keys", "provider_backoffs", "provider_day_counts",
	} {
		all += "delete from " + table + ";"
	}
	execute(t, s.url, all)
}

// binaries is where 'make test' has put the programs.
var binaries = os.Getenv("E2E_BIN_DIR") //nolint:forbidigo // it sets it

// start starts compute-ma, if it is dead. It dies with this process, however that ends: its shell waits for the end of a pipe.
func (s *stage) start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kill != nil {
		return nil
	}
	host, port, _ := strings.Cut(s.address, ":")
	cmd := exec.Command("sh", "-c", `"$0" & read -r _; kill -9 $!; wait $!`, filepath.Join(binaries, "compute-ma"))
	cmd.Env = append(os.Environ(), "HOST="+host, "PORT="+port, "DATABASE_URL="+s.url, "LOG_LEVEL=warn", "MA_WINDOWS="+strings.Trim(strings.Join(strings.Fields(fmt.Sprint(windows)), ","), "[]"))
	cmd.Stdout, cmd.Stderr = &s.out, &s.out
	pipe, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return err
	}
	s.kill = func() {
		_ = pipe.Close()
		_ = cmd.Wait() // killed
	}
	for began := time.Now(); time.Since(began) < 30*time.Second; {
		resp, err := s.client.Get("http://" + s.address + "/healthz")
		if err == nil {
			return resp.Body.Close()
		}
		<-time.After(2 * time.Millisecond)
	}
	return errors.New("compute-ma does not start")
}

// die kills compute-ma, whatever it is doing.
func (s *stage) die() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kill != nil {
		s.kill()
		s.kill = nil
	}
}

// atOnce is how many events are under way to compute-ma.
const atOnce = 16

// post stands in for Kafka and the KafkaSource: it delivers records in any order, some of them twice, and each until it is acknowledged,
// although compute-ma may die meanwhile.
func (s *stage) post(records []kafkaclient.Record) error {
	for _, i := range rand.Perm(len(records))[:len(records)/5] {
		records = append(records, records[i])
	}
	rand.Shuffle(len(records), func(i, j int) { records[i], records[j] = records[j], records[i] })
	errs := make([]error, atOnce)
	dies := rand.IntN(2*len(records) + 1) // with half of the deliveries
	var wg sync.WaitGroup
	for lane := range atOnce {
		wg.Go(func() {
			for i := lane; i < len(records); i += atOnce {
				if i == dies {
					s.die()
				}
				errs[lane] = errors.Join(errs[lane], s.postOne(records[i]))
			}
		})
	}
	wg.Wait()
	return errors.Join(append(errs, s.start())...)
}

func (s *stage) postOne(r kafkaclient.Record) error {
	for tries := 1; ; tries++ {
		req, err := http.NewRequest(http.MethodPost, "http://"+s.address+"/", bytes.NewReader(r.Value))
		if err != nil {
			return err
		}
		for _, h := range r.Headers {
			if name, ok := strings.CutPrefix(h.Name, "ce_"); ok {
				req.Header.Set("Ce-"+name, string(h.Value))
			} else {
				req.Header.Set(h.Name, string(h.Value))
			}
		}
		resp, err := s.client.Do(req)
		if err != nil { // it may be dead
			if tries == 100 {
				return err
			}
			if err := s.start(); err != nil {
				return err
			}
			continue
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		switch {
		case resp.StatusCode == http.StatusNoContent:
			return nil
		case resp.StatusCode != http.StatusServiceUnavailable || tries == 100:
			return fmt.Errorf("compute-ma answers %s to %s", resp.Status, r.Value)
		}
	}
}
