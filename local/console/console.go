// Package console prints what the parts of a local system say and log, with the name of the part before each line.
package console

import (
	"fmt"
	"io"
	"log/slog"
	"sync"
)

// Console serialises writes, so that lines of several parts do not mix.
type Console struct {
	mu  sync.Mutex
	out io.Writer
}

// New returns a console that prints to out.
func New(out io.Writer) *Console { return &Console{out: out} }

// Write writes b while no other write is in progress.
func (c *Console) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.out.Write(b)
}

// Say prints a line of the local runtime itself.
func (c *Console) Say(text string) {
	_, _ = fmt.Fprintf(c, "%-15s %s\n", "local", text) // a closed terminal must not stop the stack
}

// Log returns a writer that prints JSON log lines in a short form, after a label.
func (c *Console) Log(label string) io.Writer { return newReadable(c, label) }

// Logger returns the logger of a part that runs in this process.
func (c *Console) Logger(label string) *slog.Logger {
	return slog.New(slog.NewJSONHandler(c.Log(label), &slog.HandlerOptions{Level: slog.LevelInfo}))
}
