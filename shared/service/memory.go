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

// LimitMemory is [TuneGC] with 400 percent and a soft limit on what Go holds, in MiB, unless GOMEMLIMIT in the environment has set one.
// Garbage may gather to four times what lives, and a collection in the middle of a burst finds much alive that is garbage a second
// later; the limit bounds that. It must lie well above what a function keeps alive under load; otherwise it does little but collect.
func LimitMemory(mebibytes int64) {
	TuneGC(400)
	if debug.SetMemoryLimit(-1) == math.MaxInt64 {
		debug.SetMemoryLimit(mebibytes << 20)
	}
}
