package terminal

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"marketdata/functions/dlq-inspector/internal/operators"
)

// filter is the flags that select letters.
type filter struct{ symbol, cause, topic, q, since, until string }

func (f *filter) define(flags *flag.FlagSet) {
	flags.StringVar(&f.symbol, "symbol", "", "of the event")
	flags.StringVar(&f.cause, "cause", "", "as 'groups' shows it")
	flags.StringVar(&f.topic, "topic", "", "of the original record")
	flags.StringVar(&f.q, "q", "", "text in code, reason, symbol, source, id or value")
	flags.StringVar(&f.since, "since", "", "last failure at or after, such as 2024-03-20T10:30:00Z")
	flags.StringVar(&f.until, "until", "", "last failure before")
}

// set returns the flags that were given, by their names in the API.
func (f *filter) set() map[string]string {
	all := map[string]string{"fingerprint": f.cause, "symbol": f.symbol, "topic": f.topic, "q": f.q, "since": f.since, "until": f.until}
	for name, value := range all {
		if value == "" {
			delete(all, name)
		}
	}
	return all
}

// page is the flags of a list.
type page struct {
	limit int
	token string
}

func (p *page) define(flags *flag.FlagSet) {
	flags.IntVar(&p.limit, "limit", 100, "rows, at most 1000")
	flags.StringVar(&p.token, "page-token", "", "next_page_token of the page before")
}

func (p *page) query() url.Values {
	q := url.Values{"limit": {strconv.Itoa(p.limit)}}
	if p.token != "" {
		q.Set("page_token", p.token)
	}
	return q
}

// more says that there are further rows.
func (c *command) more(token *string) {
	if token != nil {
		c.note("There are more: --page-token %s\n", safe(*token))
	}
}

func list(ctx context.Context, c *command, args []string) error {
	var f filter
	var p page
	f.define(c.flags)
	p.define(c.flags)
	status := c.flags.String("status", "", "open, replaying, resolved, sent or discarded")
	if err := c.parse(args, "[flags]"); err != nil {
		return err
	}
	if err := c.noArguments(); err != nil {
		return err
	}
	q := p.query()
	for name, value := range f.set() {
		q.Set(name, value)
	}
	if *status != "" {
		q.Set("status", *status)
	}
	var answer struct {
		Messages []operators.Summary
		Next     *string `json:"next_page_token"`
	}
	for {
		body, err := c.api.get(ctx, "/dlq/messages", q, &answer)
		if err != nil {
			return err
		}
		if c.json {
			c.raw(body)
			return nil
		}
		if len(answer.Messages) > 0 || answer.Next == nil {
			break
		}
		q.Set("page_token", *answer.Next) // pages of a search may be empty although others follow
	}
	t := newTable("ID", "LAST (UTC)", "STATUS", "SYMBOL", "WHY")
	for _, l := range answer.Messages {
		t.add(l.ID.String(), short(l.LastFailedAt), l.Status, text(l.Symbol), why(l.Code, l.Reason))
	}
	c.table(t)
	c.more(answer.Next)
	return nil
}

func groups(ctx context.Context, c *command, args []string) error {
	var p page
	p.define(c.flags)
	if err := c.parse(args, "[flags]"); err != nil {
		return err
	}
	if err := c.noArguments(); err != nil {
		return err
	}
	var answer struct {
		Groups []struct {
			Fingerprint, Code, Reason string
			Letters, Open             int64
			Last                      time.Time `json:"last_failed_at"`
			Hours                     []int64   `json:"per_hour"`
		}
		Next *string `json:"next_page_token"`
	}
	body, err := c.api.get(ctx, "/dlq/groups", p.query(), &answer)
	if err != nil {
		return err
	}
	if c.json {
		c.raw(body)
		return nil
	}
	t := newTable("CAUSE", "OPEN", "LETTERS", "LAST DAY", "LAST (UTC)", "WHY")
	for _, g := range answer.Groups {
		var day int64
		for _, n := range g.Hours {
			day += n
		}
		t.add(g.Fingerprint, fmt.Sprint(g.Open), fmt.Sprint(g.Letters), fmt.Sprint(day), short(g.Last), why(g.Code, g.Reason))
	}
	c.table(t)
	c.more(answer.Next)
	return nil
}

func show(ctx context.Context, c *command, args []string) error {
	raw := c.flags.Bool("raw", false, "write the bytes of the value, and nothing else")
	if err := c.parse(args, "ID [--json | --raw]"); err != nil {
		return err
	}
	if err := c.ids(1); err != nil {
		return err
	}
	var l operators.LetterBody
	body, err := c.api.get(ctx, "/dlq/messages/"+c.args[0], nil, &l)
	switch {
	case err != nil:
		return err
	case *raw:
		value, err := bytesOf(l.Value, l.ValueEncoding)
		if err != nil {
			return err
		}
		c.printf("%s", value)
		if l.ValueBytes > 0 {
			c.note("Only the beginning is left: the whole value had %d bytes.\n", l.ValueBytes)
		}
	case c.json:
		c.raw(body)
	default:
		c.letter(l)
	}
	return nil
}

func bytesOf(value *string, encoding string) ([]byte, error) {
	if value == nil {
		return nil, nil
	}
	if encoding != "base64" {
		return []byte(*value), nil
	}
	b, err := base64.StdEncoding.DecodeString(*value)
	if err != nil {
		return nil, fmt.Errorf("decode value: %w", err)
	}
	return b, nil
}

func (c *command) letter(l operators.LetterBody) {
	fact := func(name, value string) { c.printf("%-10s %s\n", name, safe(value)) }
	fact("letter", l.ID.String())
	fact("status", l.Status)
	fact("why", why(l.Code, l.Reason))
	if l.Meaning != "" {
		fact("meaning", l.Meaning)
		fact("remedy", l.Remedy)
	}
	fact("symbol", text(l.Symbol))
	origin := "unknown"
	if l.Topic != nil && l.Partition != nil && l.Offset != nil {
		origin = fmt.Sprintf("%s partition %d offset %d", *l.Topic, *l.Partition, *l.Offset)
	}
	if !l.Exact {
		origin += " (not an exact copy)"
	}
	fact("origin", origin)
	fact("cause", l.Fingerprint)
	fact("failures", fmt.Sprintf("%d, first %s, last %s UTC", l.FailureCount, stamp(l.FirstFailedAt), stamp(l.LastFailedAt)))
	fact("replays", strconv.Itoa(l.ReplayCount))
	c.printf("\nVALUE\n")
	c.value(l.Value, l.ValueEncoding)
	if l.ValueBytes > 0 {
		c.printf("  Only the beginning is left: the whole value had %d bytes.\n", l.ValueBytes)
	}
	c.printf("\nKEY\n")
	c.value(l.Key, l.KeyEncoding)
	c.printf("\nHEADERS\n")
	for _, h := range l.Headers {
		value := "(null)"
		if h.Value != nil {
			value = *h.Value
		}
		if h.Encoding == "base64" {
			value = "base64 " + value
		}
		c.printf("  %s: %s\n", safe(h.Name), safe(value))
	}
	c.printf("\nFAILURES\n")
	t := newTable("  AT (UTC)", "BY", "WHY")
	for _, f := range l.Failures {
		t.add("  "+stamp(f.FailedAt), f.Function, why(f.Code, f.Reason))
	}
	c.table(t)
	c.printf("\nAUDIT TRAIL\n")
	t = newTable("  AT (UTC)", "WHO", "ACTION", "STATUS", "REASON")
	for _, e := range l.Audit {
		t.add("  "+stamp(e.At), e.Who, e.Action, statusOf(e.Before)+" → "+statusOf(e.After), e.Reason)
	}
	c.table(t)
}

// statusOf returns the status of a side of an audit entry.
func statusOf(state []byte) string {
	var s struct{ Status string }
	if json.Unmarshal(state, &s) != nil {
		return "?"
	}
	return s.Status
}

// shown is how much of a value people see, in bytes.
const (
	shownText  = 4096
	shownBytes = 256
)

// value prints a value: text in its lines, other bytes in hex.
func (c *command) value(value *string, encoding string) {
	b, err := bytesOf(value, encoding)
	most := shownText
	switch {
	case err != nil:
		c.printf("  %s\n", safe(err.Error()))
		return
	case value == nil:
		c.printf("  (null)\n")
		return
	case len(b) == 0:
		c.printf("  (empty)\n")
		return
	case encoding == "base64":
		most = shownBytes
	}
	left := len(b) - min(len(b), most)
	b = b[:len(b)-left]
	lines := strings.Split(strings.TrimSuffix(hex.Dump(b), "\n"), "\n")
	if encoding != "base64" {
		for len(b) > 0 && left > 0 && !utf8.Valid(b) { // cut within a character
			b, left = b[:len(b)-1], left+1
		}
		lines = strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
	}
	for _, line := range lines {
		c.printf("  %s\n", safe(strings.ReplaceAll(line, "\t", "    ")))
	}
	if left > 0 {
		c.printf("  … %d more bytes: --raw writes all\n", left)
	}
}
