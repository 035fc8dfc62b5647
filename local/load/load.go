// Package load load-tests the whole built system from outside, at a realistic size. It prints each figure together with a reference
// from the same run: a program that does only what cannot be left out. The ratio of the two says more than the rate, which depends
// on the machine and its other load.
//
// Start at [Run]. The system runs in a folder of its own, with throw-away services, and does not touch a running stack.
package load

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// Options says what to measure.
type Options struct {
	BinDir string         // folder with the built programs
	Short  bool           // a tenth of the size and one round: a check for collapse, not a measurement
	Rows   []string       // names of rows; empty: all
	Routes *regexp.Regexp // those that the row "overload" floods, by name; nil: all, and connections that are held
	Out    io.Writer      // receives the table and the progress
}

// sizes are the sizes of the rows.
type sizes struct {
	rounds   int           // of each program, alternating; figures are medians
	round    time.Duration // duration of a round
	backlog  int           // records in a backlog
	letters  int           // poison records
	replays  int           // letters in a bulk replay; five times as many in one with kills
	listed   int           // letters that are listed and searched
	jobs     int           // polling jobs
	symbols  int           // symbols that the jobs share
	interval time.Duration // of the jobs
	periods  int           // periods to watch the jobs for
	flooding time.Duration // of each route in the row "overload"
}

var (
	full = sizes{
		rounds: 5, round: 2 * time.Second, backlog: 100_000, letters: 100_000, replays: 20_000, listed: 1_000_000,
		jobs: 10_000, symbols: 500, interval: time.Minute, periods: 3, flooding: time.Minute,
	}
	short = sizes{
		rounds: 1, round: time.Second, backlog: 10_000, letters: 5_000, replays: 1_000, listed: 20_000,
		jobs: 500, symbols: 50, interval: 5 * time.Second, periods: 3, flooding: 5 * time.Second,
	}
)

// missSymbols is the number of invented symbols: enough for a round of misses to ask for none twice within CACHE_TTL.
const missSymbols = 60_000

// floodSymbols is the same for the row "overload", which asks for ten times as many.
const floodSymbols = 600_000

// figure is one line of the table.
type figure struct {
	what      string
	value     float64
	unit      string
	reference string  // the reference and its figure; empty: none
	ratio     float64 // to the reference; 0: none
	atLeast   float64 // targets; 0: none
	atMost    float64
	minRatio  float64
}

// run is a measurement in progress.
type run struct {
	*system
	sizes
	routes    *regexp.Regexp // of the Options
	reference string         // URL of the reference servers
	out       io.Writer
	figures   []figure
	clients   clients // shared by all rows: a client of one row may be at its limit in the next
	noOp      float64 // records per second of the source alone, once measured
	seed      int     // of the last backlog, so that the points of each are new

	recoveries atomic.Int64
}

// row is one measurement.
type row struct {
	name    string
	measure func(*run, context.Context) error
	asked   bool // it runs only if it is asked for
}

// rows lists the measurements in order: single functions first, then whole paths, then the memory that these took.
var rows = []row{
	{name: "hit", measure: (*run).hit},
	{name: "miss", measure: (*run).miss},
	{name: "compute-ma", measure: (*run).computeMA},
	{name: "backlog", measure: (*run).drainBacklog},
	{name: "letters", measure: (*run).storeLetters},
	{name: "replay", measure: (*run).replayLetters},
	{name: "replay-kills", measure: (*run).replayWithKills},
	{name: "poll", measure: (*run).pollJobs},
	{name: "lists", measure: (*run).listLetters},
	{name: "memory", measure: (*run).memory},
	{name: "overload", measure: (*run).floodRoutes, asked: true},
}

// Names returns the names of the rows.
func Names() []string {
	var all []string
	for _, r := range rows {
		all = append(all, r.name)
	}
	return all
}

// Run measures and prints the table. If Short is set, it returns an error if a figure misses its target by a factor of ten. The
// system is stopped when Run returns.
func Run(ctx context.Context, o Options) error {
	for _, name := range o.Rows {
		if !slices.Contains(Names(), name) {
			return fmt.Errorf("load: unknown row %q (one of %s)", name, strings.Join(Names(), " "))
		}
	}
	binDir, err := filepath.Abs(o.BinDir)
	if err != nil {
		return fmt.Errorf("load: %w", err)
	}
	symbols := missSymbols
	if slices.Contains(o.Rows, "overload") {
		symbols = floodSymbols
	}
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	s, err := startSystem(ctx, binDir, symbols, fail)
	if err != nil {
		return err
	}
	defer func() { s.stop() }()
	m := &run{system: s, sizes: full, routes: o.Routes, out: o.Out}
	if o.Short {
		m.sizes = short
	}
	stop, err := m.startReference(ctx)
	if err != nil {
		return err
	}
	defer stop()
	for _, r := range rows {
		if len(o.Rows) == 0 && r.asked || len(o.Rows) > 0 && !slices.Contains(o.Rows, r.name) {
			continue
		}
		m.say("measuring %s", r.name)
		if err := r.measure(m, ctx); err != nil {
			m.print()
			if cause := context.Cause(ctx); cause != nil {
				err = cause
			}
			return fmt.Errorf("%s: %w\n%s", r.name, err, s.logTail("sources"))
		}
	}
	m.print()
	if o.Short {
		return m.collapsed()
	}
	return nil
}

func (m *run) say(format string, args ...any) { _, _ = fmt.Fprintf(m.out, format+"\n", args...) }

func (m *run) add(f figure) { m.figures = append(m.figures, f) }

func (m *run) print() {
	m.say("\n| what | measured | reference | ratio | target |\n|---|---|---|---|---|")
	for _, f := range m.figures {
		ratio := ""
		if f.ratio > 0 {
			ratio = fmt.Sprintf("%.2f", f.ratio)
		}
		m.say("| %s | %s %s | %s | %s | %s |", f.what, number(f.value), f.unit, f.reference, ratio, f.targets())
	}
}

// targets formats the targets of a figure, and whether they are met.
func (f figure) targets() string {
	var all []string
	met := true
	if f.minRatio > 0 {
		all, met = append(all, fmt.Sprintf("ratio ≥ %.2f", f.minRatio)), met && f.ratio >= f.minRatio
	}
	if f.atLeast > 0 {
		all, met = append(all, "≥ "+number(f.atLeast)), met && f.value >= f.atLeast
	}
	if f.atMost > 0 {
		all, met = append(all, "≤ "+number(f.atMost)), met && f.value <= f.atMost
	}
	switch text := strings.Join(all, ", "); {
	case text == "":
		return ""
	case met:
		return text + " ✓"
	default:
		return text + " ✗"
	}
}

// collapsed returns an error that lists the figures that miss their targets by a factor of ten.
func (m *run) collapsed() error {
	var all []string
	for _, f := range m.figures {
		if f.value < f.atLeast/10 || f.ratio < f.minRatio/10 || f.atMost > 0 && f.value > f.atMost*10 {
			all = append(all, fmt.Sprintf("%s: %s %s", f.what, number(f.value), f.unit))
		}
	}
	if len(all) > 0 {
		return fmt.Errorf("load: ten times worse than the target: %s", strings.Join(all, "; "))
	}
	return nil
}

func number(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}

func median(values []float64) float64 {
	sorted := slices.Clone(values)
	slices.Sort(sorted)
	return sorted[len(sorted)/2]
}
