package service

import (
	"math"
	"runtime/debug"
)

// TuneGC lets garbage gather to so many percent of what lives, unless the environment has GOGC: a function keeps a few megabytes
// alive, and to collect each time as much again has gathered takes a tenth of its time under load. Call it at the start of the
// process, before there are other threads to stop.
func TuneGC(percent int) {
	if set := debug.SetGCPercent(percent); set != 100 { // 100: Go's default
		debug.SetGCPercent(set)
	}
}

// memoryLimit is for functions that keep little alive: garbage may gather to four times that, and a collection in the middle of a
// burst finds much alive that is garbage a second later.
const memoryLimit = 32 << 20

// LimitMemory is [TuneGC] with 400 percent and a soft limit on what Go holds, unless GOMEMLIMIT in the environment has set one. It
// is not for a function that may have to keep more alive than that: such a one would do little but collect.
func LimitMemory() {
	TuneGC(400)
	if debug.SetMemoryLimit(-1) == math.MaxInt64 {
		debug.SetMemoryLimit(memoryLimit)
	}
}
