package service

import (
	"math"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// TuneGC lets garbage gather to so many percent of what lives, unless the environment has GOGC: a function keeps a few megabytes
// alive, and to collect each time as much again has gathered takes a tenth of its time under load. Call it at the start of the
// process, before there are other threads to stop.
func TuneGC(percent int) {
	if set := debug.SetGCPercent(percent); set != 100 { // 100: Go's default
		debug.SetGCPercent(set)
	}
}

// LimitMemory is [TuneGC] with a soft limit on what Go holds, in MiB, unless GOMEMLIMIT in the environment has set one. A collection in the
// middle of a burst finds much alive that is garbage a second later; the limit bounds what gathers until the next one. Whenever what lives
// comes near the limit, as with thousands of connections, the limit rises with it, up to [mostMemory]: otherwise the function would do
// little but collect.
func LimitMemory(percent int, mebibytes int64) {
	TuneGC(percent)
	if debug.SetMemoryLimit(-1) == math.MaxInt64 {
		l := &limit{least: mebibytes << 20, now: mebibytes << 20}
		debug.SetMemoryLimit(l.now)
		runtime.SetFinalizer(l, follow)
	}
}

// mostMemory leaves room for what Go does not count, such as librdkafka's buffers, in a container of 256 MiB, where more would be the end.
const mostMemory = 176 << 20

// limit is garbage at each collection, and lives on.
type limit struct{ least, now int64 }

// follow sets the memory limit after a collection, unless somebody else has set another.
func follow(l *limit) {
	if debug.SetMemoryLimit(-1) != l.now {
		return
	}
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"}}
	metrics.Read(samples)
	lives := int64(samples[0].Value.Uint64() + samples[1].Value.Uint64()) //nolint:gosec // bytes in memory
	if now := min(max(l.least, 2*lives+beside), mostMemory); now != l.now {
		l.now = now
		debug.SetMemoryLimit(now)
	}
	runtime.SetFinalizer(l, follow)
}

// beside is what the memory limit counts beside objects and stacks, with room to spare, in bytes.
const beside = 16 << 20
