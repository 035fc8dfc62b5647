//go:build integration

// Package simulation_test plays the life of followed histories: 60 days in seconds, with downtimes, kills, stopped replicas, outages, spent
// budgets, late and corrected bars, splits, and the clocks put forward or back.
//
// What runs is poll as its main puts it together, on a real Postgres, and the built compute-ma; both are killed. Not real are the time, the
// exchange (local/exchange, over HTTP in memory), Redis (miniredis), and Kafka, in whose place compute-ma gets the events in any order, some
// twice.
// simulate (world_integration_test.go) is where to start; newPlan has what happens, and compare what must be stored.
package simulation_test

import (
	"fmt"
	"runtime/debug"
	"testing"
	"time"

	"marketdata/shared/testenv"
)

// Every final bar is stored once and is the exchange's, averages follow from them, and no budget is exceeded. SIM_SEEDS is how many
// simulations are played (one takes about four seconds of a processor), SIM_SEED the first of them. A seed has one plan, but calls that run
// at the same time may overtake each other.
func TestHistoriesHeal(t *testing.T) {
	t.Parallel()
	const together = 2
	stages := make(chan *stage, together)
	for range together {
		stages <- newStage(t)
	}
	first, seeds := testenv.Size(t, "SIM_SEED", 1), testenv.Size(t, "SIM_SEEDS", 50)
	debug.SetGCPercent(400) // most of what a simulation allocates lives briefly
	began := time.Now()
	t.Cleanup(func() { t.Logf("%d simulations took %s", seeds, time.Since(began).Round(time.Millisecond)) })
	for i := range seeds {
		t.Run(fmt.Sprint("seed ", first+i), func(t *testing.T) {
			t.Parallel()
			s := <-stages
			defer func() { stages <- s }()
			s.clear(t)
			if difference := simulate(t, s, uint64(first+i)); difference != "" {
				t.Fatal(difference)
			}
		})
	}
}
