package terminal

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"marketdata/functions/dlq-inspector/internal/operators"
)

// replayFlags are the flags of 'replay' beside those of the filter.
type replayFlags struct {
	reason, target         string
	rate                   int
	all, yes, plan, forced bool
}

func replay(ctx context.Context, c *command, args []string) error {
	var f filter
	var r replayFlags
	f.define(c.flags)
	c.flags.BoolVar(&r.all, "all", false, "all open letters")
	c.flags.BoolVar(&r.yes, "yes", false, "do not plan and ask first")
	c.flags.BoolVar(&r.plan, "dry-run", false, "only plan: with a filter, the function is asked about each letter, and nothing changes")
	c.flags.BoolVar(&r.forced, "force", false, "go on although most letters are refused, and replay letters that have used up their replays")
	c.flags.StringVar(&r.target, "target", "function", "function, or topic: exact copies to the original topics")
	c.flags.StringVar(&r.reason, "reason", "", "for the audit trail")
	c.flags.IntVar(&r.rate, "rate", 200, "letters a second, at most; with a filter")
	if err := c.parse(args, "ID… | FILTER… | --all [flags]"); err != nil {
		return err
	}
	if err := c.ids(0); err != nil {
		return err
	}
	switch filtered := len(f.set()) > 0; {
	case len(c.args) > 0 && (filtered || r.all), filtered && r.all:
		return usageError{"give ids, a filter or --all, and only one of them"}
	case len(c.args) == 0 && !filtered && !r.all:
		return usageError{"give the ids of letters, a filter, or --all"}
	case !r.yes && !r.plan && !c.Asks:
		return usageError{"nobody can be asked here: --yes replays without a question, --dry-run only plans"}
	case len(c.args) > 0:
		return c.replayLetters(ctx, r)
	}
	return c.replayMany(ctx, f, r)
}

// confirm asks a question. Anything but yes is no.
func (c *command) confirm(question string) bool {
	if err := c.out.Flush(); err != nil { // what the question is about comes first
		return false
	}
	c.note("%s [y/N] ", question)
	answer, _ := bufio.NewReader(c.In).ReadString('\n')
	answer = strings.ToLower(strings.TrimSpace(answer))
	return answer == "y" || answer == "yes"
}

// replayLetters replays letters one after the other, after it has shown them.
func (c *command) replayLetters(ctx context.Context, r replayFlags) error {
	if !r.yes {
		t := newTable("ID", "STATUS", "SYMBOL", "WHY")
		for _, id := range c.args {
			var l operators.LetterBody
			if _, err := c.api.get(ctx, "/dlq/messages/"+id, nil, &l); err != nil {
				return err
			}
			t.add(id, l.Status, text(l.Symbol), why(l.Code, l.Reason))
		}
		if !c.json {
			c.table(t)
		}
		if r.plan {
			return nil
		}
		if !c.confirm(fmt.Sprintf("Replay %s?", letters(int64(len(c.args))))) {
			return errFailed
		}
	}
	body := map[string]any{"target": r.target, "force": r.forced}
	if r.reason != "" {
		body["reason"] = r.reason
	}
	return c.each(ctx, "replay", body)
}

// each sends a change of each letter, and prints what became of it. It goes on after a refusal, but not if the others would fare alike.
func (c *command) each(ctx context.Context, change string, body map[string]any) error {
	var failed error
	for _, id := range c.args {
		var l operators.LetterBody
		answer, err := c.api.post(ctx, "/dlq/messages/"+id+"/"+change, body, &l)
		var r *refusal
		outcome, detail := l.Status, ""
		switch {
		case errors.As(err, &r) && r.isNoEntry():
			return err
		case err != nil:
			failed, outcome, detail = errFailed, "failed", err.Error()
		case change == "replay" && l.Status == "open":
			failed, outcome, detail = errFailed, "refused", why(l.Code, l.Reason)
		}
		switch {
		case c.json && err == nil:
			c.raw(answer)
		case c.json:
			c.note("%s: %s\n", id, safe(err.Error()))
		default:
			line := fmt.Sprintf("%s  %-9s  %s", id, outcome, detail)
			c.printf("%s\n", strings.TrimRight(cut(safe(line), max(c.width, 60)), " "))
		}
		if err := c.out.Flush(); err != nil {
			return err
		}
	}
	return failed
}

// replayMany replays the open letters of a filter, after a plan of it.
func (c *command) replayMany(ctx context.Context, f filter, r replayFlags) error {
	body := map[string]any{"filter": f.set(), "target": r.target, "force": r.forced, "rate_per_second": r.rate}
	if r.reason != "" {
		body["reason"] = r.reason
	}
	if !r.yes {
		plan := maps.Clone(body)
		plan["dry_run"] = true
		b, answer, err := c.follow(ctx, plan)
		if err != nil {
			return err
		}
		if c.json && r.plan {
			c.raw(answer)
		} else if !c.json {
			c.bulk(b)
		}
		switch {
		case r.plan:
			return outcomeOf(b)
		case b.Status != "completed":
			return errFailed
		case b.Matched == 0:
			return nil
		case !c.confirm(fmt.Sprintf("Replay %s?", letters(b.Matched))):
			return errFailed
		}
	}
	b, answer, err := c.follow(ctx, body)
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

// outcomeOf is the error of a replay that did not settle all of its letters.
func outcomeOf(b operators.BulkBody) error {
	if b.Status != "completed" || b.Outcomes["refused"] > 0 || b.Outcomes["skipped"] > 0 {
		return errFailed
	}
	return nil
}

// follow starts a replay of many letters and follows it to its end. It goes on in the function if the command ends earlier.
func (c *command) follow(ctx context.Context, body map[string]any) (b operators.BulkBody, answer []byte, err error) {
	answer, err = c.api.post(ctx, "/dlq/replays", body, &b)
	if err != nil {
		return b, nil, err
	}
	defer func() {
		if c.Live {
			c.note("\r\x1b[K") // the line of the progress
		}
	}()
	path := "/dlq/replays/" + b.ID.String()
	for b.Status == "running" {
		if c.Live {
			c.note("\r\x1b[K%d of %d", b.Done, b.Matched)
		}
		if !rest(ctx, cmp.Or(c.api.every, 500*time.Millisecond)) {
			return b, nil, fmt.Errorf("the work goes on in the function: %s", path)
		}
		b = operators.BulkBody{}
		if answer, err = c.api.get(ctx, path, nil, &b); err != nil {
			return b, nil, fmt.Errorf("the work goes on in the function: %s: %w", path, err)
		}
	}
	return b, answer, nil
}

// bulk prints how a replay of many letters ended.
func (c *command) bulk(b operators.BulkBody) {
	name := "replay"
	if b.DryRun {
		name = "plan"
	}
	c.printf("%s %s: %s, %d of %s\n", name, b.ID, safe(b.Status), b.Done, letters(b.Matched))
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

func discard(ctx context.Context, c *command, args []string) error {
	reason := c.flags.String("reason", "", "for the audit trail; required")
	if err := c.parse(args, "ID… --reason TEXT [--json]"); err != nil {
		return err
	}
	if err := c.ids(0); err != nil {
		return err
	}
	if len(c.args) == 0 || *reason == "" {
		return usageError{"give the ids of letters, and a --reason"}
	}
	return c.each(ctx, "discard", map[string]any{"reason": *reason})
}
