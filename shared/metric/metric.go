// Package metric writes metrics in Prometheus' text format, each family with its HELP text.
//
// A package that counts something keeps the texts of its families in one table, next to where it makes them, and passes it to
// [Describe]. deploy/metrics_test.go compares these tables with the names in the code and in the README.
package metric

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/VictoriaMetrics/metrics"
)

// Help is the HELP text of a family.
type Help struct{ Name, Text string }

// described holds the tables of [Describe]. They are only read when metrics are written: a function that starts has better things to do.
var (
	mu        sync.Mutex
	described = [][]Help{process[:]}
)

// Describe adds the HELP texts of families. A text that was added before may be added again.
func Describe(texts []Help) {
	mu.Lock()
	defer mu.Unlock()
	described = append(described, texts)
}

func texts() map[string]string {
	mu.Lock()
	defer mu.Unlock()
	all := map[string]string{}
	for _, table := range described {
		for _, h := range table {
			all[h.Name] = h.Text
		}
	}
	return all
}

// family has the lines of one family, without HELP and TYPE.
type family struct {
	kind  string
	lines []byte
}

// Write writes the metrics of set, of the build, and of the process, sorted by family. Of the process it writes only the families that
// Prometheus' own clients have, too: the others have names or types that its conventions forbid.
func Write(w io.Writer, set *metrics.Set) error {
	metrics.ExposeMetadata(true) // the types; the library has no HELP texts
	var text bytes.Buffer
	set.WritePrometheus(&text)
	writeBuild(&text)
	metrics.WriteProcessMetrics(&text)
	metrics.WriteFDMetrics(&text)
	families, help := parse(text.Bytes()), texts()
	var out bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(families)) {
		f := families[name]
		if help[name] == "" && (strings.HasPrefix(name, "go_") || strings.HasPrefix(name, "process_")) {
			continue
		}
		fmt.Fprintf(&out, "# HELP %s %s\n# TYPE %s %s\n", name, help[name], name, f.kind)
		out.Write(f.lines)
	}
	_, err := w.Write(out.Bytes())
	return err
}

// parse gathers what the library wrote by family. A family may come in several parts, of several sets.
func parse(text []byte) map[string]*family {
	families := map[string]*family{}
	var current *family
	for line := range bytes.Lines(text) {
		words := strings.Fields(string(line))
		switch {
		case len(words) >= 3 && words[0] == "#" && words[1] == "HELP":
			if current = families[words[2]]; current == nil {
				current = &family{}
				families[words[2]] = current
			}
		case len(words) == 4 && words[0] == "#" && words[1] == "TYPE":
			current.kind = words[3]
		case current != nil:
			current.lines = append(current.lines, line...)
		}
	}
	return families
}
