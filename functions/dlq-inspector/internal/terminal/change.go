package terminal

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"marketdata/functions/dlq-inspector/internal/operators"
)

// choice is the flags of a change: which letters, and whether it is planned first.
type choice struct {
	filter

	all, yes, plan bool
	reason         string
}

func (ch *choice) define(flags *flag.FlagSet) {
	ch.filter.define(flags)
	flags.BoolVar(&ch.all, "all", false, "all open letters")
	flags.BoolVar(&ch.yes, "yes", false, "do not plan and ask first")
	flags.BoolVar(&ch.plan, "dry-run", false, "only plan, and change nothing")
}

// parse reads the command line. It must choose letters in one way.
func (ch *choice) parse(c *command, args []string, synopsis string) error {
	if err := c.parse(args, synopsis); err != nil {
		return err
	}
	if err := c.ids(0); err != nil {
		return err
	}
	ways := 0
	for _, way := range []bool{len(c.args) > 0, len(ch.set()) > 0, ch.all} {
		if way {
			ways++
		}
	}
	if ways != 1 {
		return usageError{"give the ids of letters, a filter, or --all, and only one of them"}
	}
	return nil
}

// change is a change of letters by the API.
type change struct {
	name string         // of the route of one letter
	path string         // of the route of many
	body map[string]any // without the choice of letters
	rate int            // of many; 0: it has none
	jq   string         // the transform of many; empty: it has none
}

// make makes a change. One letter gets its own answer, which says more than that of many.
func (c *command) make(ctx context.Context, ch choice, x change) error {
	if ch.reason != "" {
		x.body["reason"] = ch.reason
	}
	many := maps.Clone(x.body)
	if many["filter"] = ch.set(); len(c.args) > 0 {
		delete(many, "filter")
		many["ids"] = c.args
	}
	if x.rate > 0 {
		many["rate_per_second"] = x.rate
	}
	if x.jq != "" {
		many["transform"] = x.jq
	}
	if !ch.yes {
		if goOn, err := c.planned(ctx, ch.plan, x, many); !goOn {
			return err
		}
	}
	if len(c.args) == 1 && x.jq == "" {
		return c.one(ctx, x)
	}
	b, answer, err := c.follow(ctx, x.path, many)
	if err != nil {
		return err
	}
	if c.json {
		c.raw(answer)
	} else {
		c.bulk(b)
	}
	return outcomeOf(b)
}

// planned shows what a change would do, and asks whether to make it, unless only the plan is wanted.
func (c *command) planned(ctx context.Context, only bool, x change, many map[string]any) (goOn bool, err error) {
	many = maps.Clone(many)
	many["dry_run"] = true
	b, answer, err := c.follow(ctx, x.path, many)
	if err != nil {
		return false, err
	}
	if !c.json {
		c.bulk(b)
	} else if only || b.Matched == 0 {
		c.raw(answer)
	}
	switch {
	case only:
		return false, outcomeOf(b)
	case b.Status != "completed":
		return false, errFailed
	case b.Matched == 0:
		return false, nil
	}
	if err := c.out.Flush(); err != nil { // what the question is about comes first
		return false, err
	}
	c.note("%s %s? [y/N] ", strings.ToUpper(x.name[:1])+x.name[1:], letters(b.Matched))
	typed, _ := bufio.NewReader(c.In).ReadString('\n') // without an answer it is no
	typed = strings.ToLower(strings.TrimSpace(typed))
	if typed != "y" && typed != "yes" {
		return false, errFailed
	}
	return true, nil
}

// one changes one letter, and prints what became of it.
func (c *command) one(ctx context.Context, x change) error {
	var l operators.LetterBody
	answer, err := c.api.post(ctx, "/dlq/messages/"+c.args[0]+"/"+x.name, x.body, &l)
	if err != nil {
		return err
	}
	outcome := l.Status
	if outcome == "open" { // a replay that was not accepted
		outcome, err = "refused: "+why(l.Code, l.Reason), errFailed
	}
	if c.json {
		c.raw(answer)
	} else {
		c.printf("%s  %s\n", c.args[0], cut(safe(outcome), max(c.width-len(c.args[0])-2, 20)))
	}
	return err
}

// outcomeOf is the error of a change that did not settle all of its letters.
func outcomeOf(b operators.BulkBody) error {
	if b.Status != "completed" || b.Outcomes["refused"] > 0 || b.Outcomes["skipped"] > 0 {
		return errFailed
	}
	return nil
}

// follow begins a change of many letters and follows it to its end. It goes on in the function if the command ends earlier.
func (c *command) follow(ctx context.Context, path string, body map[string]any) (b operators.BulkBody, answer []byte, err error) {
	answer, err = c.api.post(ctx, path, body, &b)
	if err != nil {
		return b, nil, err
	}
	defer func() {
		if c.Live {
			c.note("\r\x1b[K") // the line of the progress
		}
	}()
	progress := "/dlq/replays/" + b.ID.String()
	for b.Status == "running" {
		if c.Live {
			c.note("\r\x1b[K%d of %d", b.Done, b.Matched)
		}
		if !rest(ctx, cmp.Or(c.api.every, 500*time.Millisecond)) {
			return b, nil, errors.New("the work goes on in the function: " + progress)
		}
		b = operators.BulkBody{}
		if answer, err = c.api.get(ctx, progress, nil, &b); err != nil {
			return b, nil, fmt.Errorf("the work goes on in the function: %s: %w", progress, err)
		}
	}
	return b, answer, nil
}

// bulk prints how a change of many letters ended.
func (c *command) bulk(b operators.BulkBody) {
	name := b.Action
	if b.DryRun {
		name = "plan of a " + name
	}
	c.printf("%s %s: %s, %d of %s\n", safe(name), b.ID, safe(b.Status), b.Done, letters(b.Matched))
	counts := func(all map[string]int64, indent string) {
		for _, name := range slices.Sorted(maps.Keys(all)) {
			if all[name] > 0 {
				c.printf("%s%-*s %d\n", indent, 20-len(indent), safe(name), all[name])
			}
		}
	}
	counts(b.Outcomes, "  ")
	if len(b.Reasons) > 0 {
		c.printf("  refused or skipped because\n")
		counts(b.Reasons, "    ")
	}
	if b.StopReason != nil {
		c.printf("  stopped: %s\n", safe(*b.StopReason))
	}
	if b.CancelledBy != nil {
		c.printf("  cancelled by %s\n", safe(*b.CancelledBy))
	}
}

func letters(n int64) string {
	if n == 1 {
		return "1 letter"
	}
	return fmt.Sprint(n, " letters")
}

// synopsis of the commands that change letters.
const synopsis = "ID… | FILTER… | --all [flags]"

func replay(ctx context.Context, c *command, args []string) error {
	var ch choice
	ch.define(c.flags)
	force := c.flags.Bool("force", false, "go on although most letters are refused, and replay letters that have used up their replays")
	target := c.flags.String("target", "function", "function, or topic: exact copies to the original topics")
	rate := c.flags.Int("rate", 200, "letters a second, at most")
	jq := c.flags.String("transform", "", "jq program that makes the data of each event, such as '.price |= tonumber'")
	c.flags.StringVar(&ch.reason, "reason", "", "for the audit trail")
	if err := ch.parse(c, args, synopsis); err != nil {
		return err
	}
	if !ch.yes && !ch.plan && !c.Asks {
		return usageError{"nobody can be asked here: --yes replays without a question, --dry-run only plans"}
	}
	return c.make(ctx, ch, change{name: "replay", path: "/dlq/replays", body: map[string]any{"target": *target, "force": *force}, rate: *rate, jq: *jq})
}

// discard plans and asks only where a filter chooses the letters.
func discard(ctx context.Context, c *command, args []string) error {
	var ch choice
	ch.define(c.flags)
	c.flags.StringVar(&ch.reason, "reason", "", "for the audit trail; required")
	if err := ch.parse(c, args, synopsis); err != nil {
		return err
	}
	ch.yes = ch.yes || len(c.args) > 0 && !ch.plan
	switch {
	case ch.reason == "":
		return usageError{"give a --reason"}
	case !ch.yes && !ch.plan && !c.Asks:
		return usageError{"nobody can be asked here: --yes discards without a question, --dry-run only plans"}
	}
	return c.make(ctx, ch, change{name: "discard", path: "/dlq/discards", body: map[string]any{}})
}
