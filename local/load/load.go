// Package load drives the whole built system from outside, at the size that users have, and prints what it carries beside
// references of the same run: programs that do only what cannot be left out. A ratio of one run says more than a rate, which
// depends on the machine and on what else it does.
//
// Start at [Run]. The system runs in a folder of its own, with throw-away services; nothing of a stack that is up is touched.
package load

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Options says what to measure, and how much of it.
type Options struct {
	BinDir string    // folder with the built programs
	Short  bool      // a tenth of the size, one round: a guard against collapse, not a measurement
	Rows   []string  // names of rows; empty: all
	Out    io.Writer // the table, and progress
}

// sizes of the rows.
type sizes struct {
	rounds   int           // of each program, alternating; figures are medians
	round    time.Duration // of a row without a backlog
	backlog  int           // records of a backlog
	letters  int           // poison records
	replays  int           // letters of a bulk replay
	jobs     int           // polling jobs
	symbols  int           // that they share, and that exist
	interval time.Duration // of the jobs
	periods  int           // of the jobs that are watched
}

var (
	full = sizes{
		rounds: 5, round: 2 * time.Second, backlog: 100_000, letters: 100_000, replays: 20_000,
		jobs: 10_000, symbols: 500, interval: time.Minute, periods: 3,
	}
	short = sizes{
		rounds: 1, round: time.Second, backlog: 10_000, letters: 5_000, replays: 1_000,
		jobs: 500, symbols: 50, interval: 5 * time.Second, periods: 3,
	}
)

// missSymbols exist at the exchange so that a round of misses never asks for one twice within CACHE_TTL.
const missSymbols = 60_000

// figure is one line of the table.
type figure struct {
	what     string
	value    float64
	unit     string
	beside   string  // the reference and its figure; empty: none
	ratio    float64 // to the reference; 0: none
	atLeast  float64 // what value must reach; 0: nothing is asked of it
	atMost   float64
	minRatio float64
}

// run is a measurement under way.
type run struct {
	*system
	sizes
	reference string // URL of the reference servers
	out       io.Writer
	figures   []figure
	clients   clients // of all rows: one that asked in a row is at its limit in the next
	noOp      float64 // records a second of the source alone, once measured
	seed      int     // of the next backlog: its points are new ones
}

// row is one measurement.
type row struct {
	name    string
	measure func(*run, context.Context) error
}

// rows in their order: the limits of single functions first, then whole paths, then what memory they left.
var rows = []row{
	{"hit", (*run).hit},
	{"miss", (*run).miss},
	{"compute-ma", (*run).computeMA},
	{"backlog", (*run).drainBacklog},
	{"letters", (*run).storeLetters},
	{"replay", (*run).replayLetters},
	{"poll", (*run).pollJobs},
	{"memory", (*run).memory},
}

// Names lists the rows.
func Names() []string {
	var all []string
	for _, r := range rows {
		all = append(all, r.name)
	}
	return all
}

// Run measures, prints the table and, where Short is set, returns an error if a figure falls below a tenth of what is asked of
// it. The system is stopped when it returns.
func Run(ctx context.Context, o Options) error {
	for _, name := range o.Rows {
		if !slices.Contains(Names(), name) {
			return fmt.Errorf("load: no row %q (one of %s)", name, strings.Join(Names(), " "))
		}
	}
	binDir, err := filepath.Abs(o.BinDir)
	if err != nil {
		return fmt.Errorf("load: %w", err)
	}
	s, err := startSystem(ctx, binDir, missSymbols)
	if err != nil {
		return err
	}
	defer func() { s.stop() }()
	m := &run{system: s, sizes: full, out: o.Out}
	if o.Short {
		m.sizes = short
	}
	stop, err := m.startReference(ctx)
	if err != nil {
		return err
	}
	defer stop()
	for _, r := range rows {
		if len(o.Rows) > 0 && !slices.Contains(o.Rows, r.name) {
			continue
		}
		m.say("measuring %s", r.name)
		if err := r.measure(m, ctx); err != nil {
			m.print()
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
	m.say("\n| what | measured | beside | ratio | asked for |\n|---|---|---|---|---|")
	for _, f := range m.figures {
		ratio := ""
		if f.ratio > 0 {
			ratio = fmt.Sprintf("%.2f", f.ratio)
		}
		m.say("| %s | %s %s | %s | %s | %s |", f.what, number(f.value), f.unit, f.beside, ratio, f.asked())
	}
}

// asked says what is asked of a figure and whether it is met.
func (f figure) asked() string {
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

// collapsed reports figures that miss what is asked by a factor of ten.
func (m *run) collapsed() error {
	var all []string
	for _, f := range m.figures {
		if f.value < f.atLeast/10 || f.ratio < f.minRatio/10 || f.atMost > 0 && f.value > f.atMost*10 {
			all = append(all, fmt.Sprintf("%s: %s %s", f.what, number(f.value), f.unit))
		}
	}
	if len(all) > 0 {
		return fmt.Errorf("load: ten times worse than asked for: %s", strings.Join(all, "; "))
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
