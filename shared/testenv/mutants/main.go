// Mutants changes a package in one small way at a time, and runs the package's tests on each change: a comparison, a condition, a
// constant, a statement or a field left out, a clause of a query. A change that the tests do not notice survives: either they do not
// prove what it breaks, or it breaks nothing. Files stay as they are: the compiler reads mutants through an overlay.
//
// "make mutants" starts the services that the tests need. Tests of built programs do not see mutants.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

func main() {
	budget := flag.Duration("budget", time.Hour, "time for all packages; each gets an equal part of what is left")
	seed := flag.Uint64("seed", 1, "chooses the mutants that are tried within the budget")
	only := flag.String("only", "", "a pattern of file:line and change, as they are printed: try these mutants alone")
	flag.Parse()
	if err := run(context.Background(), flag.Args(), time.Now().Add(*budget), *seed, *only); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, patterns []string, end time.Time, seed uint64, only string) error {
	wanted, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "mutants")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // best effort
	args := append([]string{"list", "-f", `{{.ImportPath}} {{.Name}} {{.Dir}} {{join .GoFiles " "}}`}, patterns...)
	text, err := exec.CommandContext(ctx, "go", args...).Output() //nolint:gosec // the caller's own packages
	if err != nil {
		return fmt.Errorf("list packages: %w", err)
	}
	var total score
	var failures error
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	for i, line := range lines {
		words := strings.Fields(line)
		p := pkg{words[0], words[1], words[2], words[3:]}
		s, err := p.try(ctx, dir, time.Now().Add(time.Until(end)/time.Duration(len(lines)-i)), rand.New(rand.NewPCG(seed, 0)), wanted)
		if err != nil {
			failures = errors.Join(failures, fmt.Errorf("%s: %w", p.path, err))
			continue
		}
		say("%s: %s\n\n", p.path, s)
		total = score{total.killed + s.killed, total.timedOut + s.timedOut, total.survived + s.survived, total.left + s.left}
	}
	say("all: %s\n", total)
	return failures
}

func say(format string, values ...any) { _, _ = fmt.Fprintf(os.Stdout, format, values...) }

// score counts mutants that compile; left are those that there was no time for, whether they compile or not.
type score struct{ killed, timedOut, survived, left int }

// String begins with the share of the mutants that the tests noticed. A mutant that hangs is noticed, too; on a busy machine, some of
// these were only slow.
func (s score) String() string {
	noticed := s.killed + s.timedOut
	return fmt.Sprintf("%d%%, %d killed, %d timed out, %d survived, %d not tried",
		100*noticed/max(noticed+s.survived, 1), s.killed, s.timedOut, s.survived, s.left)
}

type pkg struct {
	path, name, dir string
	files           []string
}

// try tries the wanted mutants of a package in random order until the end. scratch is a folder for overlays.
func (p pkg) try(ctx context.Context, scratch string, end time.Time, random *rand.Rand, wanted *regexp.Regexp) (s score, err error) {
	var all []mutation
	for _, name := range p.files {
		if name == "document.go" { // the text and the examples of an OpenAPI document
			continue
		}
		found, err := mutationsOf(filepath.Join(p.dir, name))
		if err != nil {
			return s, err
		}
		for _, m := range found {
			if wanted.MatchString(m.String()) {
				all = append(all, m)
			}
		}
	}
	random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	program, verdicts, homes, err := p.build(ctx, scratch, all)
	if err != nil {
		return s, err
	}
	output, err := p.runTests(ctx, program, "MUTANT=0", "-test.v", "-test.timeout=15m")
	if v, by := verdictOf(output, err); v != survived {
		return s, fmt.Errorf("the tests fail without a mutant: %s", by)
	}
	tests, err := p.callers(ctx, scratch, program, output)
	if err != nil {
		return s, err
	}
	for i, m := range all {
		if time.Now().After(end) {
			s.left = len(all) - i
			break
		}
		v := verdicts[i]
		var by string
		switch v {
		case invalid:
			continue
		case alone:
			if v, by, err = p.testAlone(ctx, scratch, m); err != nil {
				return s, err
			}
		default:
			v, by = p.tryTests(ctx, program, i+1, tests[homes[i]])
		}
		switch v {
		case killed:
			s.killed++
		case timedOut:
			s.timedOut++
		case survived:
			s.survived++
		default:
			continue
		}
		say("%-9s %s/%s  %s\n", v, p.path, m, by)
	}
	return s, nil
}

// verdict is what became of a mutant.
type verdict string

const (
	killed   verdict = "killed"
	timedOut verdict = "timed out"
	survived verdict = "SURVIVED"
	invalid  verdict = "invalid" // it does not compile
	alone    verdict = "alone"   // to be built alone
)

var failed = regexp.MustCompile(`--- FAIL: (\S+)`)

// runTests runs a program of [pkg.build] with a variable.
func (p pkg) runTests(ctx context.Context, program, variable string, flags ...string) (output string, err error) {
	flags = append(flags, "-test.parallel=8")        // tests of services wait more than they work
	c := exec.CommandContext(ctx, program, flags...) //nolint:gosec // our own program
	c.Dir, c.Env = p.dir, append(os.Environ(), variable)
	text, err := c.CombinedOutput()
	return string(text), err
}

// tryTests runs the tests that call the mutant's function, the quick ones first. by is the first test that failed.
func (p pkg) tryTests(ctx context.Context, program string, mutant int, tests [paces]group) (v verdict, by string) {
	v = survived
	for _, g := range tests {
		if len(g.names) == 0 {
			continue
		}
		longest := 30*time.Second + 3*g.took // a mutant may wait for ever
		output, err := p.runTests(ctx, program, fmt.Sprint("MUTANT=", mutant), "-test.run="+those(g.names), "-test.failfast", "-test.timeout="+longest.String())
		if v, by = verdictOf(output, err); v != survived {
			break
		}
	}
	return v, by
}

func those(tests []string) string { return "^(" + strings.Join(tests, "|") + ")$" }

// group is tests of one pace.
type group struct {
	names []string
	took  time.Duration // one after the other
}

const paces = 3

// pace sorts tests: most mutants are killed by those that take no time.
func pace(took time.Duration) int {
	switch {
	case took < 100*time.Millisecond:
		return 0
	case took < time.Second:
		return 1
	}
	return 2
}

var passed = regexp.MustCompile(`(?m)^--- PASS: (\S+) \((\S+)\)`)

// callers runs each test that has passed alone, and returns the tests that call a function, by its name and the pace of the test.
func (p pkg) callers(ctx context.Context, scratch, program, output string) (map[string][paces]group, error) {
	tests := map[string][paces]group{}
	calls := filepath.Join(scratch, "calls")
	for _, match := range passed.FindAllStringSubmatch(output, -1) {
		took, err := time.ParseDuration(match[2])
		if err != nil {
			return nil, err
		}
		if err := os.WriteFile(calls, nil, 0o600); err != nil {
			return nil, err
		}
		if output, err := p.runTests(ctx, program, "MUTANT_CALLS="+calls, "-test.run="+those(match[1:2])); err != nil {
			return nil, fmt.Errorf("%s fails alone: %s", match[1], output)
		}
		called, err := os.ReadFile(calls) //nolint:gosec // our own file
		if err != nil {
			return nil, err
		}
		for _, function := range strings.FieldsFunc(string(called), func(r rune) bool { return r == '\n' }) {
			of := tests[function]
			g := &of[pace(took)]
			g.names, g.took = append(g.names, match[1]), g.took+took
			tests[function] = of
		}
	}
	return tests, nil
}

// testAlone runs the tests with a mutant that is not in a program of [pkg.build].
func (p pkg) testAlone(ctx context.Context, dir string, m mutation) (v verdict, by string, err error) {
	overlay, err := writeOverlay(dir, map[string]string{m.path: string(m.applied())})
	if err != nil {
		return "", "", err
	}
	args := []string{"test", "-tags=integration", "-count=1", "-vet=off", "-overlay=" + overlay, "-failfast", "-timeout=5m", p.path}
	output, err := exec.CommandContext(ctx, "go", args...).CombinedOutput() //nolint:gosec // our own arguments
	v, by = verdictOf(string(output), err)
	return v, by, nil
}

func verdictOf(output string, err error) (v verdict, by string) {
	if match := failed.FindStringSubmatch(output); match != nil {
		by = match[1]
	}
	switch {
	case err == nil:
		return survived, ""
	case strings.Contains(output, "[build failed]"):
		return invalid, ""
	case strings.Contains(output, "panic: test timed out"):
		return timedOut, by
	}
	return killed, by
}
