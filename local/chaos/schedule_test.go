package chaos

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestASeedHasOneSchedule(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		first, again := Plan(seed, 3*time.Minute), Plan(seed, 3*time.Minute)
		require.Equal(t, first, again)
	}
	require.NotEqual(t, Plan(1, 3*time.Minute), Plan(2, 3*time.Minute))
}

func TestEveryFaultOccurs(t *testing.T) {
	t.Parallel()
	seen := map[Kind]map[string]bool{}
	for seed := range uint64(40) {
		for _, f := range Plan(seed, 3*time.Minute) {
			if seen[f.Kind] == nil {
				seen[f.Kind] = map[string]bool{}
			}
			seen[f.Kind][f.Target] = true
		}
	}
	for _, o := range options() {
		require.ElementsMatch(t, o.targets, slices.Collect(maps.Keys(seen[o.kind])), string(o.kind))
	}
}

// A target has one fault at a time, and all of them end before the schedule does.
func TestFaultsOfATargetDoNotOverlap(t *testing.T) {
	t.Parallel()
	for seed := range uint64(100) {
		const d = time.Minute
		over := map[string]time.Duration{}
		var last time.Duration
		once := map[Kind]int{}
		for _, f := range Plan(seed, d) {
			require.GreaterOrEqual(t, f.At, last, f)
			require.GreaterOrEqual(t, f.At, over[part(f.Target)], f)
			require.Less(t, f.At+f.For, d, f)
			last, over[part(f.Target)] = f.At, f.At+f.For
			once[f.Kind]++
		}
		require.LessOrEqual(t, once[FailOver], 1)
		require.LessOrEqual(t, once[FullDisk], 1)
	}
}
