package service

import (
	"bytes"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"marketdata/shared/metric"
)

// moment is a time, and the CPU time that the process had spent by then.
type moment struct {
	at  time.Time
	cpu time.Duration
}

func thisMoment() moment {
	var used syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &used) // it cannot fail for this process
	return moment{time.Now(), time.Duration(used.Utime.Nano() + used.Stime.Nano())}
}

// tick is the kernel's unit of a process's start time (USER_HZ).
const tick = 10 * time.Millisecond

// exec returns when the process began. A start takes about as long as a tick of the kernel's time for it, and is mostly CPU time: so the
// CPU time says it more exactly, within the bounds of the kernel's. Without /proc it is the CPU time alone.
func (m moment) exec() time.Time {
	guess := m.at.Add(-m.cpu)
	ago, ok := sinceExec()
	if !ok {
		return guess
	}
	kernel := time.Now().Add(-ago)
	if kernel.After(m.at.Add(tick)) { // a container's uptime is not the kernel's
		return guess
	}
	if earliest := kernel.Add(-tick); guess.Before(earliest) {
		return earliest
	}
	if latest := kernel.Add(tick); guess.After(latest) {
		return latest
	}
	return guess
}

// sinceExec returns how long ago the process began by the kernel's clock, a tick more or less.
func sinceExec() (time.Duration, bool) {
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return 0, false
	}
	uptime, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return 0, false
	}
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:]) // the name before it may hold spaces
	if len(fields) < 20 {
		return 0, false
	}
	began, errBegan := strconv.ParseFloat(string(fields[19]), 64) // field 22 of proc(5)
	seconds, _, _ := bytes.Cut(uptime, []byte{' '})
	up, errUp := strconv.ParseFloat(string(seconds), 64)
	return time.Duration((up - began*tick.Seconds()) * float64(time.Second)), errBegan == nil && errUp == nil
}

var startHelp = []metric.Help{
	{Name: "marketdata_start_listening_seconds", Text: "Time from the start of the process until it listened on its port."},
	{Name: "marketdata_start_ready_seconds", Text: "Time from the start of the process until /readyz first answered 200."},
}

// observeStart adds the gauges of the start to the metrics. What they need is read when they are.
func (s *Service) observeStart(listening moment) {
	metric.Describe(startHelp)
	exec := sync.OnceValue(listening.exec)
	s.Metrics.NewGauge("marketdata_start_listening_seconds", func() float64 { return listening.at.Sub(exec()).Seconds() })
	ready := sync.OnceFunc(func() {
		at := time.Now()
		s.Metrics.NewGauge("marketdata_start_ready_seconds", func() float64 { return at.Sub(exec()).Seconds() })
	})
	s.noteReady.Store(&ready)
}
