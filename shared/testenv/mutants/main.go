// Mutants changes a package in one small way at a time, and runs the package's tests on each change: a comparison, a condition, a
// constant, a statement or a field left out, a clause of a query. A change that the tests do not notice survives: either they do not
// prove what it breaks, or it breaks nothing. Files stay as they are: the compiler reads a mutant through an overlay.
//
// "make mutants" starts the services that the tests need. Tests of built programs do not see mutants.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

func main() {
	budget := flag.Duration("budget", time.Hour, "time for all packages; each gets an equal part of what is left")
	seed := flag.Uint64("seed", 1, "chooses the mutants that are tried within the budget")
	flag.Parse()
	if err := run(context.Background(), flag.Args(), time.Now().Add(*budget), *seed); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, patterns []string, end time.Time, seed uint64) error {
	dir, err := os.MkdirTemp("", "mutants")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // best effort
	args := append([]string{"list", "-f", `{{.ImportPath}} {{.Dir}} {{join .GoFiles " "}}`}, patterns...)
	text, err := exec.CommandContext(ctx, "go", args...).Output() //nolint:gosec // the caller's own packages
	if err != nil {
		return fmt.Errorf("list packages: %w", err)
	}
	var total score
	var failures error
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	for i, line := range lines {
		words := strings.Fields(line)
		p := pkg{words[0], words[1], words[2:]}
		s, err := p.try(ctx, dir, time.Now().Add(time.Until(end)/time.Duration(len(lines)-i)), rand.New(rand.NewPCG(seed, 0)))
		if err != nil {
			failures = errors.Join(failures, fmt.Errorf("%s: %w", p.path, err))
			continue
		}
		say("%s: %s\n\n", p.path, s)
		total = score{total.killed + s.killed, total.survived + s.survived, total.left + s.left}
	}
	say("all: %s\n", total)
	return failures
}

func say(format string, values ...any) { _, _ = fmt.Fprintf(os.Stdout, format, values...) }

// score counts mutants that compile; left are those that there was no time for, whether they compile or not.
type score struct{ killed, survived, left int }

// String begins with the share of the mutants that the tests noticed.
func (s score) String() string {
	return fmt.Sprintf("%d%%, %d killed, %d survived, %d not tried", 100*s.killed/max(s.killed+s.survived, 1), s.killed, s.survived, s.left)
}

type pkg struct {
	path, dir string
	files     []string
}

// try tries the mutants of a package in random order until the end. scratch is a folder for overlays.
func (p pkg) try(ctx context.Context, scratch string, end time.Time, random *rand.Rand) (s score, err error) {
	var all []mutation
	for _, name := range p.files {
		if name == "document.go" { // the text and the examples of an OpenAPI document
			continue
		}
		found, err := mutationsOf(filepath.Join(p.dir, name))
		if err != nil {
			return s, err
		}
		all = append(all, found...)
	}
	random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	began := time.Now()
	if v := p.test(ctx, "-timeout=15m"); v != survived {
		return s, errors.New("the tests fail without a mutant")
	}
	longest := max(3*time.Since(began), 30*time.Second) // a mutant may wait for ever
	for i, m := range all {
		if time.Now().After(end) {
			s.left = len(all) - i
			break
		}
		overlay, err := m.write(scratch)
		if err != nil {
			return s, err
		}
		v := p.test(ctx, "-overlay="+overlay, "-failfast", "-timeout="+longest.String())
		switch v {
		case invalid:
			continue
		case killed:
			s.killed++
		case survived:
			s.survived++
		}
		say("%-8s %s/%s:%d  %s\n", v, p.path, filepath.Base(m.path), m.line, m)
	}
	return s, nil
}

// write returns the overlay that makes the compiler read a mutant instead of its file.
func (m mutation) write(dir string) (overlay string, err error) {
	mutant, overlay := filepath.Join(dir, "mutant.go"), filepath.Join(dir, "overlay.json")
	text, err := json.Marshal(map[string]any{"Replace": map[string]string{m.path: mutant}})
	return overlay, errors.Join(err, os.WriteFile(overlay, text, 0o600), os.WriteFile(mutant, m.applied(), 0o600))
}

// verdict is what became of a mutant.
type verdict string

const (
	killed   verdict = "killed"
	survived verdict = "SURVIVED"
	invalid  verdict = "invalid" // it does not compile
)

func (p pkg) test(ctx context.Context, flags ...string) verdict {
	args := append([]string{"test", "-tags=integration", "-count=1", "-vet=off"}, append(flags, p.path)...)
	output, err := exec.CommandContext(ctx, "go", args...).CombinedOutput() //nolint:gosec // our own arguments
	switch {
	case err == nil:
		return survived
	case strings.Contains(string(output), "[build failed]"):
		return invalid
	}
	return killed
}
