package ratelimit

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/stretchr/testify/require"
)

func TestLargeLimitsAreKeptInParts(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Limit{
		"5/1m":          {5, time.Minute},
		"100000/1m":     {100_000, time.Minute},
		"100001/1m":     {50_000, 30 * time.Second},
		"10000000/1m":   {100_000, 600 * time.Millisecond},
		"1000000/1d":    {100_000, 144 * time.Minute},
		"1073741824/1s": {99_994, 94 * time.Microsecond},
	} {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			l, err := ParseLimit(text)
			require.NoError(t, err)
			require.Equal(t, want, l.kept())
		})
	}
	rng := rand.New(rand.NewPCG(5, 6))
	for range 10_000 {
		l := Limit{1 + rng.IntN(1<<(1+rng.IntN(30))), time.Duration(1+rng.Int64N(1<<(1+rng.IntN(30)))) * time.Millisecond}
		kept := l.kept()
		require.LessOrEqual(t, kept.N, maxLog)
		if l.N <= maxLog {
			require.Equal(t, l, kept)
			continue
		}
		parts := int((l.Window + kept.Window - 1) / kept.Window) // that a window can overlap
		require.LessOrEqual(t, parts*kept.N, l.N, "%v as %v", l, kept)
		if kept.Window > 10*time.Microsecond {
			require.Greater(t, parts*kept.N, l.N*9/10, "%v as %v", l, kept)
		}
		require.Zero(t, kept.Window%time.Microsecond, "Redis counts in microseconds")
	}
}

// heap returns the bytes in use.
func heap() int {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

func TestMemoryStaysSmallUnderALimitOfMillions(t *testing.T) { //nolint:paralleltest // measures the heap
	now := start
	m := NewMemory(func() time.Time { return now })
	limit := Limit{10_000_000, time.Minute}
	before, admitted := heap(), 0
	for range 600_000 { // in 3 seconds
		now = now.Add(5 * time.Microsecond)
		if m.take("c", []Limit{limit}).Allowed {
			admitted++
		}
	}
	require.Less(t, heap()-before, 8<<20)
	require.InDelta(t, 500_000, admitted, maxLog, "a twentieth of what a minute admits")
	runtime.KeepAlive(m)
}

// Expired logs are deleted because of their size, too, not only because of their number.
func TestMemoryForgetsLargeLogs(t *testing.T) { //nolint:paralleltest // measures the heap
	now := start
	m := NewMemory(func() time.Time { return now })
	before := heap()
	for client := range 40 {
		key, limits := strconv.Itoa(client), []Limit{{20_000, time.Minute}}
		for range 20_000 {
			m.take(key, limits)
		}
		now = now.Add(time.Minute)
	}
	require.Less(t, heap()-before, 12<<20)
	runtime.KeepAlive(m)
}

func TestRedisListStaysShortUnderALimitOfMillions(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	s := subject{Store: NewRedis(clientOf(t, server.Addr()), "t:"), advance: clockOf(server)}
	stamps := make([]string, maxLog-1)
	for i := range stamps {
		stamps[i] = fmt.Sprint(start.UnixMicro())
	}
	_, err := server.Push("t:client", stamps...)
	require.NoError(t, err)
	limit := Limit{10_000_000, time.Minute}
	d := s.take(t, limit)
	require.True(t, d.Allowed)
	require.Equal(t, []int{0}, d.Left)
	d = s.take(t, limit)
	require.False(t, d.Allowed)
	require.Equal(t, 600*time.Millisecond, d.Reset)
	s.advance(600 * time.Millisecond)
	require.True(t, s.take(t, limit).Allowed)
	list, err := server.List("t:client")
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.Equal(t, 1600*time.Millisecond, server.TTL("t:client"))
}
