//go:build integration

package store

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"marketdata/functions/compute-ma/internal/model"
	"marketdata/shared/fault"
	"marketdata/shared/postgres"
	"marketdata/shared/priceevent"
	"marketdata/shared/testenv"
)

var modelWindows = []int{2, 5, 20, 50}

const (
	schedules = 1000 // in process; those with the built binary are in binary_integration_test.go
	workers   = 4    // databases that share them
	copies    = 3    // of compute-ma on each
)

// The promise of design.md section 6: whatever the order, the repetitions, the callers that go away, the connections that
// break and the number of copies, the tables are what the model says of the set of events.
func TestRandomSchedulesLeaveWhatTheModelSays(t *testing.T) {
	t.Parallel()
	for w := range workers {
		t.Run(fmt.Sprint("database ", w), func(t *testing.T) {
			t.Parallel()
			url := testenv.PostgresURL(t)
			admin, err := postgres.Open(t.Context(), url)
			require.NoError(t, err)
			defer admin.Close()
			if w == 0 { // as a large system has it
				script, err := os.ReadFile("../../../../deploy/partition.sql")
				require.NoError(t, err)
				_, err = admin.Exec(t.Context(), string(script))
				require.NoError(t, err)
			}
			var all []*Batcher
			for range copies {
				pool, err := postgres.Open(t.Context(), url+"&application_name=copy")
				require.NoError(t, err)
				defer pool.Close()
				a := NewBatcher(New(pool, modelWindows), func(int, time.Duration) {})
				defer a.Close()
				all = append(all, a)
			}
			for i := w; i < schedules; i += workers {
				seed := uint64(i)
				s := schedule{rng: rand.New(rand.NewPCG(seed, 77)), copies: all, admin: admin}
				prefix := fmt.Sprintf("S%d", i)
				events := model.Events(t, s.rng, prefix)
				s.play(t, events)
				require.Equal(t, model.Tables(events, modelWindows), model.Dump(t, admin, prefix), "seed %d", seed)
			}
		})
	}
}

// schedule plays the platform: it delivers every event at least once, in any order, again after any error, until it is
// acknowledged; now and then a caller goes away or a connection is killed.
type schedule struct {
	rng    *rand.Rand
	copies []*Batcher
	admin  *pgxpool.Pool
}

func (s *schedule) play(t *testing.T, events []priceevent.Observation) {
	t.Helper()
	deliveries := slices.Clone(events)
	for range s.rng.IntN(len(events) + 1) {
		deliveries = append(deliveries, events[s.rng.IntN(len(events))])
	}
	s.rng.Shuffle(len(deliveries), func(i, j int) { deliveries[i], deliveries[j] = deliveries[j], deliveries[i] })
	inFlight := make(chan struct{}, []int{1, 4, 24}[s.rng.IntN(3)])
	killAt, cancelOdds := -1, s.rng.IntN(10)
	if s.rng.IntN(4) == 0 {
		killAt = s.rng.IntN(len(deliveries))
	}
	var wg sync.WaitGroup
	failed := make(chan error, len(deliveries))
	for i, o := range deliveries {
		inFlight <- struct{}{}
		first, goesAway, patience := s.copies[s.rng.IntN(len(s.copies))], s.rng.IntN(10) < cancelOdds, time.Duration(s.rng.IntN(2000))*time.Microsecond
		second := s.copies[s.rng.IntN(len(s.copies))]
		wg.Go(func() {
			defer func() { <-inFlight }()
			if goesAway {
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				_, _ = first.Commit(ctx, o) // whatever became of it, the platform delivers again
				cancel()
			}
			failed <- deliver(second, o)
		})
		if i == killAt {
			_, err := s.admin.Exec(t.Context(), "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'copy' and datname = current_database()")
			require.NoError(t, err)
		}
	}
	wg.Wait()
	close(failed)
	for err := range failed {
		require.NoError(t, err)
	}
}

// deliver tries again as long as the error says that trying again may help.
func deliver(a *Batcher, o priceevent.Observation) error {
	var err error
	for range 100 {
		if _, err = a.Commit(context.Background(), o); err == nil || fault.Permanent(err) {
			return err
		}
	}
	return err
}

// Later points would heal a wrong average: only points next to each other in the stream, in flight at once on several
// connections that do not share the work by series, show whether transactions on one series serialise.
func TestAdjacentPointsOfOneSeriesSerialise(t *testing.T) {
	t.Parallel()
	const symbols, points, connections = 3000, 3, 12
	pool := testenv.Postgres(t)
	var all []priceevent.Observation
	at := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	for symbol := range symbols {
		for i, p := range model.Prices(t, "1", "2", "6") {
			all = append(all, model.Observation(fmt.Sprintf("S%d", symbol), at.Add(time.Duration(i)*time.Second), p))
		}
	}
	queue := make(chan priceevent.Observation)
	var wg sync.WaitGroup
	errs := make(chan error, 100*len(all))
	var held atomic.Int64
	for c := range connections {
		s := New(pool, []int{5}) // each is a copy of its own, with one event a transaction or a few
		rng := rand.New(rand.NewPCG(uint64(c), 1))
		wg.Go(func() {
			for o := range queue {
				batch := []priceevent.Observation{o}
				for range rng.IntN(3) {
					if next, open := <-queue; open {
						batch = append(batch, next)
					}
				}
				for len(batch) > 0 {
					effects, err := s.Apply(context.Background(), batch)
					if errs <- err; err != nil {
						break
					}
					// On a busy machine another connection may hold a series for longer than lockWait: its events come again.
					var again []priceevent.Observation
					for i, effect := range effects {
						if effect.Outcome == Held {
							again = append(again, batch[i])
							held.Add(1)
						}
					}
					if batch = again; len(batch) > 0 {
						<-time.After(20 * time.Millisecond) // as a source does, for two seconds at most
					}
				}
			}
		})
	}
	for _, o := range all {
		queue <- o
	}
	close(queue)
	wg.Wait()
	close(errs)
	for err := range errs {
		require.NoError(t, err)
	}
	var wrong, rows int
	require.NoError(t, pool.QueryRow(t.Context(),
		"select count(*) filter (where average <> 3 or points_used <> $1), count(*) from symbol_averages", points).Scan(&wrong, &rows))
	t.Log(held.Load(), "times an event was held")
	require.Zero(t, wrong, "of %d averages", rows)
	require.Equal(t, symbols, rows)
}
