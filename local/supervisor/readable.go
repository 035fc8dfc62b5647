package supervisor

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"sort"
	"strings"
	"sync"
	"time"
)

// readable turns a function's JSON log lines into short ones; what is no JSON passes as it is.
type readable struct {
	label string
	mu    sync.Mutex
	rest  []byte
	out   io.Writer
}

func newReadable(out io.Writer, label string) *readable { return &readable{out: out, label: label} }

// Write takes any piece of the stream and prints the whole lines.
func (r *readable) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rest = append(r.rest, b...)
	unread := r.rest
	defer func() { r.rest = append(r.rest[:0], unread...) }()
	for {
		line, rest, found := bytes.Cut(unread, []byte("\n"))
		if !found {
			return len(b), nil
		}
		unread = rest
		if _, err := fmt.Fprintf(r.out, "%-15s %s\n", r.label, format(line)); err != nil {
			return len(b), err
		}
	}
}

func format(line []byte) string {
	var m map[string]json.RawMessage
	if json.Unmarshal(line, &m) != nil {
		return string(line)
	}
	text := func(name string) string {
		var s string
		if json.Unmarshal(m[name], &s) != nil {
			s = string(m[name])
		}
		delete(m, name)
		return s
	}
	when, level, msg := text("time"), text("level"), text("msg")
	delete(m, "function")
	if t, err := time.Parse(time.RFC3339Nano, when); err == nil {
		when = t.Local().Format("15:04:05.000")
	}
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	sort.Strings(names)
	var out strings.Builder
	fmt.Fprintf(&out, "%s %-5s %s", when, level, msg)
	for _, name := range names {
		fmt.Fprintf(&out, " %s=%s", name, text(name))
	}
	return out.String()
}

// Readable gives a writer that prints JSON log lines under a label as short ones.
func Readable(out io.Writer, label string) io.Writer { return newReadable(out, label) }
