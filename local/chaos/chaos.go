// Package chaos puts the built system under load, breaks it in all ways that it promises to survive, and then compares its tables and
// topics with what clients and producers saw.
//
// Start at [Run]. [Plan] makes the schedule of faults from a seed, injector applies it (inject.go), load is what clients do meanwhile
// (load.go, produce.go), and checker finds the first difference (check.go). The system runs in a folder of its own (system.go).
package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Options says what to play.
type Options struct {
	BinDir    string // folder with the built programs
	Seed      uint64 // of the first schedule; the next has the next seed
	Schedules int
	Duration  time.Duration // of a schedule, without the start and the check
	Out       io.Writer     // receives the schedules and the report
}

// shortest leaves time for a fault.
const shortest = 15 * time.Second

// Run plays schedules, each on a new system, until one ends with a difference, which is its error: it names the seed.
func Run(ctx context.Context, o Options) error {
	if o.Schedules < 1 || o.Duration < shortest {
		return fmt.Errorf("chaos: want at least one schedule of %v or longer", shortest)
	}
	bin, err := filepath.Abs(o.BinDir)
	if err != nil {
		return fmt.Errorf("chaos: %w", err)
	}
	for i := range uint64(o.Schedules) {
		if err := play(ctx, o, bin, o.Seed+i); err != nil {
			return fmt.Errorf("chaos: seed %d: %w", o.Seed+i, err)
		}
	}
	return nil
}

// play plays one schedule.
func play(ctx context.Context, o Options, bin string, seed uint64) (err error) {
	// Not under TMPDIR, which Postgres' user may be unable to enter.
	dir, err := os.MkdirTemp("/var/tmp", "marketdata-chaos-")
	if err != nil {
		return fmt.Errorf("create data folder: %w", err)
	}
	if err := os.Chmod(dir, 0o711); err != nil { //nolint:gosec // Postgres' user must be able to enter it; its files are private
		return fmt.Errorf("set mode of data folder: %w", err)
	}
	var out sync.Mutex
	say := func(format string, args ...any) {
		out.Lock()
		defer out.Unlock()
		_, _ = fmt.Fprintf(o.Out, format+"\n", args...) // a closed terminal must not stop us
	}
	plan := Plan(seed, o.Duration)
	say("seed %d: %d faults in %v", seed, len(plan), o.Duration)
	s, err := start(ctx, dir, bin, seed, has(plan, FailOver))
	defer func() {
		if s != nil {
			s.stop()
		}
		if err != nil {
			say("the log of the system is in %s", filepath.Join(dir, "log"))
			keepOnly(dir, "log")
			return
		}
		_ = os.RemoveAll(dir) // best effort: it is a temporary folder
	}()
	if err != nil {
		return err
	}
	b := newBook()
	produced, err := newEvents(s, b, seed)
	if err != nil {
		return err
	}
	defer produced.kafka.Close()
	l := &load{system: s, book: b, seed: seed, events: produced}
	in := &injector{system: s, note: say}

	loadCtx, stopLoad := context.WithCancel(ctx)
	defer stopLoad()
	var loaded sync.WaitGroup
	loaded.Go(func() { l.run(loadCtx) })
	in.run(ctx, plan)
	faultsEnd := time.Now()
	if !pause(ctx, lastMargin) {
		return context.Cause(ctx)
	}
	stopLoad()
	loaded.Wait()

	watching, stopWatching := context.WithCancel(ctx)
	defer stopWatching()
	for _, symbols := range []string{strings.Join(eventSymbols(), ","), constSymbol} {
		loaded.Go(func() { l.watch(watching, symbols) })
	}
	c := &checker{book: b, market: s.market, faults: in.done, starts: s.starts, follows: follows(produced.began)[:len(b.backfills)], faultsEnd: faultsEnd}
	again := 1000 // a number that leads to a correction
	err = c.settled(ctx, s, func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		again += 4
		l.replay(ctx, again)
	})
	stopWatching()
	loaded.Wait()
	say("%s", c.report(s.restarts.Load(), time.Since(faultsEnd)))
	if err != nil && ctx.Err() != nil {
		return errors.Join(context.Cause(ctx), err)
	}
	return err
}

// report says what happened, in a few lines.
func (c *checker) report(restarts int64, settled time.Duration) string {
	kinds, done := map[Kind]int{}, 0
	for _, f := range c.faults {
		if !f.failed {
			kinds[f.Kind]++
			done++
		}
	}
	var faults []string
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		faults = append(faults, fmt.Sprintf("%d %s", kinds[kind], kind))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	requests := 0
	for _, n := range c.statuses {
		requests += n
	}
	text := fmt.Sprintf("  %d faults (%s), %d restarts of processes\n  %d requests, of which %d prices answered; %d events, %d dead letters, %d points; settled %v after the last fault",
		done, strings.Join(faults, ", "), restarts, requests, len(c.quotes), len(c.events), len(c.letters), len(c.points), settled.Round(time.Second))
	if c.healed != nil {
		text += fmt.Sprintf("\n  healed last: %v", c.healed)
	}
	return text
}

// keepOnly removes everything in dir but one file.
func keepOnly(dir, name string) {
	entries, _ := os.ReadDir(dir) // then nothing is removed
	for _, e := range entries {
		if e.Name() != name {
			_ = os.RemoveAll(filepath.Join(dir, e.Name())) // best effort
		}
	}
}
