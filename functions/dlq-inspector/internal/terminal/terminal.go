// Package terminal is the command line of the people who handle dead letters: list, groups, show, replay, discard and watch, over the same
// HTTP routes as the page. terminal.go finds the command, client.go asks the function, and table.go makes texts safe and aligns them.
package terminal

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"marketdata/shared/service"
)

// Exit codes.
const (
	exitDone    = 0
	exitFailed  = 1 // a letter was refused, or a request failed
	exitUsage   = 2 // the command line is wrong
	exitNoEntry = 3 // the function cannot be reached, or the token does not permit it
)

const usage = `usage: dlq-inspector <command> [flags]

  list      letters, newest failure first
  groups    letters by cause
  show      one letter: value, headers, failures, audit trail
  replay    deliver letters again to the function that refused them
  discard   set letters aside
  watch     print letters as they fail, until Ctrl-C

Without a command it serves. 'dlq-inspector <command> --help' lists the flags of a command.

environment:
  GATEWAY_URL                 default http://localhost:8000
  DLQ_TOKEN, DLQ_TOKEN_FILE   the operator token; 'make run' writes both into .local/env
  COLUMNS                     width of tables, default 120

exit codes:
  0  done
  1  a letter was refused, or a request failed
  2  the command line is wrong
  3  the function cannot be reached, or the token does not permit it
`

// errFailed ends a command whose output has said why.
var errFailed = errors.New("failed")

// usageError is a command line that is wrong.
type usageError struct{ text string }

func (e usageError) Error() string { return e.text }

// streams are what a command reads and writes.
type streams struct {
	In       io.Reader
	Out, Err io.Writer
	Asks     bool // somebody is there to answer a question
	Live     bool // Err is a terminal, which shows the progress
}

// Main runs a command of this process, and returns its exit code.
func Main(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// Not SIGPIPE: unhandled, it ends a command whose reader has gone, as users expect of 'list | head'.
	token, err := service.SecretSetting("DLQ_TOKEN")
	if err != nil {
		fmt.Fprintln(os.Stderr, "dlq-inspector:", err)
		return exitUsage
	}
	c := &client{base: service.Setting("GATEWAY_URL", "http://localhost:8000"), token: string(token)}
	width, err := strconv.Atoi(service.Setting("COLUMNS", ""))
	if err != nil {
		width = 120
	}
	return run(ctx, args, c, width, streams{
		In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Asks: isTerminal(os.Stdin), Live: isTerminal(os.Stderr),
	})
}

// isTerminal reports a character device; the only other one that a command meets is the null device.
func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	null, _ := os.Stat(os.DevNull)
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && !os.SameFile(info, null)
}

// command is one command that runs.
type command struct {
	streams

	flags *flag.FlagSet
	out   *bufio.Writer // of streams.Out
	api   *client
	width int
	args  []string // without the flags
	json  bool     // the API's answers unchanged
}

// commands are the commands by name. Each defines its flags, calls parse, and works.
func commands() map[string]func(ctx context.Context, c *command, args []string) error {
	return map[string]func(context.Context, *command, []string) error{
		"list": list, "groups": groups, "show": show, "replay": replay, "discard": discard, "watch": watch,
	}
}

// run runs a command and returns its exit code.
func run(ctx context.Context, args []string, api *client, width int, std streams) int {
	say := func(format string, a ...any) { fmt.Fprintf(std.Err, format, a...) } //nolint:errcheck // nothing is left to be done
	if len(args) == 0 || args[0] == "help" || args[0] == "-h" || args[0] == "--help" {
		fmt.Fprint(std.Out, usage) //nolint:errcheck // nothing is left to be done
		return exitDone
	}
	work, known := commands()[args[0]]
	if !known {
		say("dlq-inspector: unknown command %q\n\n%s", args[0], usage)
		return exitUsage
	}
	c := &command{streams: std, flags: flag.NewFlagSet(args[0], flag.ContinueOnError), out: bufio.NewWriter(std.Out), api: api, width: width}
	c.flags.BoolVar(&c.json, "json", false, "print the API's JSON unchanged")
	err := work(ctx, c, args[1:])
	if flushed := c.out.Flush(); err == nil {
		err = flushed
	}
	switch refusal, wrong := (*refusal)(nil), (usageError{}); {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return exitDone
	case errors.As(err, &wrong):
		say("dlq-inspector %s: %s\n", args[0], safe(wrong.text))
		return exitUsage
	case errors.Is(err, errFailed):
		return exitFailed
	case errors.As(err, &refusal) && refusal.isNoEntry():
		say("dlq-inspector %s: %s\n", args[0], safe(err.Error()))
		return exitNoEntry
	default:
		say("dlq-inspector %s: %s\n", args[0], safe(err.Error()))
		return exitFailed
	}
}

// parse reads flags and arguments in any order. synopsis is what follows the command's name in its help.
func (c *command) parse(args []string, synopsis string) error {
	c.flags.SetOutput(io.Discard) // parse's error says it
	for {
		err := c.flags.Parse(args)
		if errors.Is(err, flag.ErrHelp) {
			c.printf("usage: dlq-inspector %s %s\n\n", c.flags.Name(), synopsis)
			c.flags.SetOutput(c.out)
			c.flags.PrintDefaults()
			return err
		}
		if err != nil {
			return usageError{err.Error()}
		}
		if c.flags.NArg() == 0 {
			return nil
		}
		c.args = append(c.args, c.flags.Arg(0))
		args = c.flags.Args()[1:]
	}
}

// ids reports arguments that are not ids of letters.
func (c *command) ids(most int) error {
	for _, id := range c.args {
		if !isID(id) {
			return usageError{fmt.Sprintf("%q is not the id of a letter", id)}
		}
	}
	if most > 0 && len(c.args) != most {
		return usageError{"give the id of one letter; 'list' shows them"}
	}
	return nil
}

// isID reports whether text is a UUID in its usual form.
func isID(text string) bool {
	if len(text) != 36 {
		return false
	}
	for i, c := range []byte(strings.ToLower(text)) {
		if dash := i == 8 || i == 13 || i == 18 || i == 23; dash != (c == '-') || !dash && !strings.ContainsRune("0123456789abcdef", rune(c)) {
			return false
		}
	}
	return true
}

// noArguments reports arguments that a command does not take.
func (c *command) noArguments() error {
	if len(c.args) > 0 {
		return usageError{fmt.Sprintf("unexpected argument %q", c.args[0])}
	}
	return nil
}

// printf writes a line of the output. Text of letters goes through [safe] first.
func (c *command) printf(format string, a ...any) { fmt.Fprintf(c.out, format, a...) } //nolint:errcheck // Flush returns the error

// note tells the person something that is no output.
func (c *command) note(format string, a ...any) { fmt.Fprintf(c.Err, format, a...) } //nolint:errcheck // nothing is left to be done

// raw writes an answer of the API as it is, in a line of its own.
func (c *command) raw(body []byte) {
	c.printf("%s\n", strings.TrimRight(string(body), "\n"))
}

// rest waits, and reports whether the command goes on.
func rest(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
