package console

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"
)

// readable shortens a function's JSON log lines. Other lines are printed unchanged.
type readable struct {
	label []byte // padded
	out   io.Writer

	mu   sync.Mutex
	rest []byte // an incomplete line
	text []byte // buffer of the lines to print
}

func newReadable(out io.Writer, label string) *readable {
	return &readable{label: fmt.Appendf(nil, "%-15s ", label), out: out}
}

// Write takes the next piece of the stream and prints the lines that are complete.
func (r *readable) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rest = append(r.rest, b...)
	r.text = r.text[:0]
	unread := r.rest
	for {
		line, rest, found := bytes.Cut(unread, []byte("\n"))
		if !found {
			break
		}
		unread = rest
		begin := len(r.text)
		r.text = append(harmless(appendReadable(append(r.text, r.label...), line), begin), '\n')
	}
	r.rest = append(r.rest[:0], unread...)
	if len(r.text) > 0 {
		_, _ = r.out.Write(r.text) // a closed terminal must not stop the function
		time.Sleep(gather)
	}
	return len(b), nil
}

// gather is how long lines collect in the pipe before they are read. Reading the lines of a busy function one by one costs more than
// writing them.
const gather = 2 * time.Millisecond

// harmless escapes what is not printable in the line that begins at an index: a log holds what strangers send, such as the id of an event,
// and that must not control the terminal, or look like another line. A line break, as in a stack, is followed by an indent.
func harmless(text []byte, begin int) []byte {
	line := text[begin:]
	if bytes.IndexFunc(line, func(c rune) bool { return c != '\t' && !unicode.IsPrint(c) || c == utf8.RuneError }) < 0 {
		return text
	}
	var out []byte
	for len(line) > 0 {
		c, n := utf8.DecodeRune(line)
		switch {
		case c == utf8.RuneError && n == 1:
			out = fmt.Appendf(out, `\x%02x`, line[0])
		case c == '\n':
			out = append(out, "\n                "...)
		case c == '\t', unicode.IsPrint(c):
			out = append(out, line[:n]...)
		default:
			quoted := strconv.QuoteRune(c)
			out = append(out, quoted[1:len(quoted)-1]...)
		}
		line = line[n:]
	}
	return append(text[:begin], out...)
}

// member is a member of a JSON object, with its value undecoded.
type member struct{ name, value []byte }

// appendReadable appends "15:04:05.000 INFO  message name=value …".
func appendReadable(out, line []byte) []byte {
	var room [24]member
	members, ok := scan(line, room[:0])
	if !ok {
		return append(out, line...)
	}
	var when, level, message []byte
	others := members[:0]
	for _, m := range members {
		switch string(m.name) {
		case "time":
			when = plain(m.value)
		case "level":
			level = plain(m.value)
		case "msg":
			message = plain(m.value)
		case "function":
		default:
			others = append(others, m)
		}
	}
	if t, err := time.Parse(time.RFC3339Nano, string(when)); err == nil {
		out = t.Local().AppendFormat(out, "15:04:05.000")
	} else {
		out = append(out, when...)
	}
	out = append(fmt.Appendf(append(out, ' '), "%-5s ", level), message...)
	for _, m := range others {
		out = append(append(append(append(out, ' '), m.name...), '='), plain(m.value)...)
	}
	return out
}

// scan splits a JSON object into its members without decoding them, because busy functions log thousands of lines a second and share
// their cores with this process. ok is false if the line is not a JSON object.
func scan(line []byte, members []member) (all []member, ok bool) {
	s := bytes.TrimSpace(line)
	if len(s) < 2 || s[0] != '{' || s[len(s)-1] != '}' || !json.Valid(s) {
		return nil, false
	}
	s = s[1 : len(s)-1]
	for {
		if s = bytes.TrimLeft(s, " \t\r\n,"); len(s) == 0 {
			return members, true
		}
		n := valueEnd(s)
		name := plain(s[:n])
		s = bytes.TrimLeft(s[n:], " \t\r\n:")
		n = valueEnd(s)
		members = append(members, member{name, bytes.TrimRight(s[:n], " \t\r\n")})
		s = s[n:]
	}
}

// valueEnd returns the length of the value at the start of s, which must be valid JSON.
func valueEnd(s []byte) int {
	depth, quoted := 0, false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			if quoted = !quoted; !quoted && depth == 0 {
				return i + 1
			}
		case quoted:
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			if depth--; depth == 0 {
				return i + 1
			}
		case c == ',' && depth == 0:
			return i
		}
	}
	return len(s)
}

// plain returns the text of a JSON string, and any other value unchanged.
func plain(value []byte) []byte {
	if len(value) < 2 || value[0] != '"' {
		return value
	}
	if bytes.IndexByte(value, '\\') < 0 {
		return value[1 : len(value)-1]
	}
	var text string
	if json.Unmarshal(value, &text) != nil {
		return value
	}
	return []byte(text)
}
