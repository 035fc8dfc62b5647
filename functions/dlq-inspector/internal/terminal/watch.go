package terminal

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"time"

	"github.com/google/uuid"

	"marketdata/functions/dlq-inspector/internal/operators"
)

// failure identifies one failure of a letter.
type failure struct {
	id uuid.UUID
	at time.Time
	n  int
}

// latest is how many failures are looked at each time; more between two looks are not all seen.
const latest = "1000"

// watch prints letters that fail while it runs: new ones, and those that fail again.
func watch(ctx context.Context, c *command, args []string) error {
	var f filter
	f.define(c.flags)
	if err := c.parse(args, "[flags]"); err != nil {
		return err
	}
	if err := c.noArguments(); err != nil {
		return err
	}
	q := url.Values{"limit": {latest}}
	for name, value := range f.set() {
		q.Set(name, value)
	}
	var seen map[failure]bool // those of the look before; nil: this is the first
	for wrong := false; ; {
		now, err := c.look(ctx, q, seen)
		var r *refusal
		switch {
		case err == nil:
			seen, wrong = now, false
		case ctx.Err() != nil: // Ctrl-C; below it ends
		case seen == nil, errors.As(err, &r) && r.status/100 == 4, !errors.As(err, &r):
			return err
		case !wrong: // for a while
			c.note("dlq-inspector watch: %s\n", safe(err.Error()))
			wrong = true
		}
		if !rest(ctx, cmp.Or(c.api.every, 2*time.Second)) {
			return nil
		}
	}
}

// look prints the failures that are not in seen, oldest first, and returns all that there are.
func (c *command) look(ctx context.Context, q url.Values, seen map[failure]bool) (map[failure]bool, error) {
	var answer struct{ Messages []json.RawMessage }
	if _, err := c.api.get(ctx, "/dlq/messages", q, &answer); err != nil {
		return nil, err
	}
	now := map[failure]bool{}
	for _, raw := range slices.Backward(answer.Messages) {
		var l operators.Summary
		if err := json.Unmarshal(raw, &l); err != nil {
			return nil, &refusal{status: 200, text: "the answer is not that of dlq-inspector: " + err.Error()}
		}
		one := failure{l.ID, l.LastFailedAt, l.FailureCount}
		now[one] = true
		switch {
		case seen == nil || seen[one]:
		case c.json:
			c.raw(raw)
		default:
			line := stamp(l.LastFailedAt) + "  " + l.ID.String() + "  " + text(l.Symbol) + "  " + why(l.Code, l.Reason)
			c.printf("%s\n", cut(safe(line), c.width))
		}
	}
	return now, c.out.Flush()
}
