package terminal

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// safe returns text for a terminal: what is not a printable character is escaped, so that a letter can neither control the terminal nor
// change the direction of what stands around it.
func safe(text string) string {
	if strings.IndexFunc(text, func(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }) < 0 {
		return text
	}
	var out strings.Builder
	for len(text) > 0 {
		r, n := utf8.DecodeRuneInString(text)
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&out, `\x%02x`, text[0])
		case unicode.IsPrint(r):
			out.WriteRune(r)
		default:
			quoted := strconv.QuoteRune(r)
			out.WriteString(quoted[1 : len(quoted)-1])
		}
		text = text[n:]
	}
	return out.String()
}

// table is aligned columns. Its cells are safe.
type table struct {
	rows [][]string
}

func newTable(titles ...string) *table { return &table{rows: [][]string{titles}} }

func (t *table) add(cells ...string) {
	row := make([]string, len(cells))
	for i, c := range cells {
		row[i] = safe(c)
	}
	t.rows = append(t.rows, row)
}

// widest bounds a column that is not the last one, in characters: an id fits.
const widest = 36

// lines returns the rows, none longer than width: the last column is cut to what is left, and at least 10 characters of it are shown.
func (t *table) lines(width int) []string {
	last := len(t.rows[0]) - 1
	widths, before := make([]int, last), 0
	for i := range widths {
		for _, row := range t.rows {
			widths[i] = max(widths[i], min(utf8.RuneCountInString(row[i]), widest))
		}
		before += widths[i] + 2
	}
	lines := make([]string, len(t.rows))
	for n, row := range t.rows {
		var b strings.Builder
		for i, w := range widths {
			cell := cut(row[i], w)
			b.WriteString(cell + strings.Repeat(" ", w-utf8.RuneCountInString(cell)+2))
		}
		b.WriteString(cut(row[last], max(width-before, 10)))
		lines[n] = strings.TrimRight(b.String(), " ")
	}
	return lines
}

// cut shortens text to n characters.
func cut(text string, n int) string {
	if utf8.RuneCountInString(text) <= n {
		return text
	}
	return string([]rune(text)[:n-1]) + "…"
}

func (c *command) table(t *table) {
	for _, line := range t.lines(c.width) {
		c.printf("%s\n", line)
	}
}

// short is a time in a column, in UTC.
func short(t time.Time) string { return t.UTC().Format("01-02 15:04") }

// stamp is a time to the second, in UTC.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") }

// why is a code with its reason.
func why(code, reason string) string {
	if reason == "" {
		return code
	}
	return code + ": " + reason
}

func text(s *string) string {
	if s == nil {
		return "-"
	}
	return *s
}
