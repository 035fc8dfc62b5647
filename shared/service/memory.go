package service

import (
	"math"
	"runtime/debug"
)

// gcPercent is how much garbage may gather, in percent of what lives: a function keeps a few megabytes alive, and to collect
// each time as much again has gathered takes a tenth of its time under load. GOGC in the environment goes before it.
const gcPercent = 400

// TuneGC sets the collector to gcPercent unless the environment has GOGC. [New] calls it.
func TuneGC() {
	if set := debug.SetGCPercent(gcPercent); set != 100 { // 100: Go's default
		debug.SetGCPercent(set)
	}
}

// memoryLimit is for functions that keep little alive: garbage may gather to gcPercent of what lives, and a collection in the
// middle of a burst finds much alive that is garbage a second later.
const memoryLimit = 32 << 20

// LimitMemory puts a soft limit on the Go heap, unless GOMEMLIMIT in the environment has set one. It is not for a function
// that may have to keep more alive than that: such a one would do little but collect.
func LimitMemory() {
	if debug.SetMemoryLimit(-1) == math.MaxInt64 {
		debug.SetMemoryLimit(memoryLimit)
	}
}
