package terminal

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the golden files")

const (
	id1  = "0190f5d8-0000-7000-8000-000000000001"
	id2  = "0190f5d8-0000-7000-8000-000000000002"
	run1 = "0190f5d8-0000-7000-8000-00000000000a"
)

// inspector answers as the function does, with answers of testdata and bodies of its own. It records the requests.
type inspector struct {
	mu       sync.Mutex
	answers  map[string][]string // by method and path, in turn; the last one stays. A body that begins with a number has that status
	requests []string
}

func (s *inspector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, strings.TrimSpace(r.Method+" "+r.URL.String()+" "+string(body)))
	key := r.Method + " " + r.URL.Path
	all := s.answers[key]
	switch {
	case r.Header.Get("Authorization") != "Bearer secret":
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, `{"detail":"the operator token is not known","code":"unauthorized"}`)
		return
	case len(all) == 0:
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, `{"detail":"there is no such dead letter","code":"message_not_found"}`)
		return
	case len(all) > 1:
		s.answers[key] = all[1:]
	}
	status, answer := http.StatusOK, all[0]
	if n, err := fmt.Sscanf(answer, "%3d", &status); n == 1 && err == nil {
		answer = answer[3:]
	}
	if status == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", "1")
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, answer)
}

func testdata(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	require.NoError(t, err)
	return string(b)
}

// bulk is the answer of a change of many letters.
func bulk(action, status string, dryRun bool, outcomes string) string {
	return fmt.Sprintf(`{"id":%q,"action":%q,"status":%q,"dry_run":%v,"matched":3,"done":2,"outcomes":%s,"reasons":{"invalid_price":1},"trouble":null,"stop_reason":null,"cancelled_by":null}`,
		run1, action, status, dryRun, outcomes)
}

// changed is a letter's answer to a change.
func changed(status string) string {
	return fmt.Sprintf(`{"id":%q,"status":%q,"code":"invalid_price","reason":"still\u001b[1m negative"}`, id1, status)
}

// row is one command line against answers.
type row struct {
	args    string
	answers map[string][]string
	in      string // of somebody who is asked; empty: nobody is there
	width   int
	token   string // empty: the right one

	code     int
	golden   string // file with the output; empty: out
	out      string
	err      string   // that the error output contains
	requests []string // empty: not compared
}

var rows = map[string]row{
	"list":                      {args: "list", answers: map[string][]string{"GET /dlq/messages": {"list.json"}}, golden: "list.txt", err: "--page-token abc"},
	"list on a narrow terminal": {args: "list --limit 2", answers: map[string][]string{"GET /dlq/messages": {"list.json"}}, width: 80, golden: "list-80.txt", err: "--page-token abc"},
	"list of a search whose first pages are empty": {
		args:    "list --q x",
		answers: map[string][]string{"GET /dlq/messages": {`{"messages":[],"next_page_token":"a"}`, `{"messages":[],"next_page_token":"b"}`, "list.json"}},
		golden:  "list.txt", err: "--page-token abc",
		requests: []string{"GET /dlq/messages?limit=100&q=x", "GET /dlq/messages?limit=100&page_token=a&q=x", "GET /dlq/messages?limit=100&page_token=b&q=x"},
	},
	"list as JSON": {args: "list --json", answers: map[string][]string{"GET /dlq/messages": {"list.json"}}, golden: "list.json"},
	"list with all filters": {
		args:    "list --status open --symbol AAPL --cause f --topic t --q a&b --since 2024-01-01T00:00:00Z --until 2025-01-01T00:00:00Z --limit 5 --page-token x",
		answers: map[string][]string{"GET /dlq/messages": {`{"messages":[]}`}}, out: "ID  LAST (UTC)  STATUS  SYMBOL  WHY\n",
		requests: []string{"GET /dlq/messages?fingerprint=f&limit=5&page_token=x&q=a%26b&since=2024-01-01T00%3A00%3A00Z&status=open&symbol=AAPL&topic=t&until=2025-01-01T00%3A00%3A00Z"},
	},
	"groups":         {args: "groups", answers: map[string][]string{"GET /dlq/groups": {"groups.json"}}, golden: "groups.txt"},
	"groups as JSON": {args: "groups --json", answers: map[string][]string{"GET /dlq/groups": {"groups.json"}}, golden: "groups.json"},
	"show":           {args: "show " + id1, answers: map[string][]string{"GET /dlq/messages/" + id1: {"letter.json"}}, golden: "show.txt"},
	"show as JSON":   {args: "show --json " + id1, answers: map[string][]string{"GET /dlq/messages/" + id1: {"letter.json"}}, golden: "letter.json"},
	"show bytes": {
		args: "show " + id1 + " --raw", answers: map[string][]string{"GET /dlq/messages/" + id1: {`{"value":"AP8=","value_encoding":"base64","value_bytes":9}`}},
		out: "\x00\xff", err: "the whole value had 9 bytes",
	},
	"show bytes that are no text": {
		args: "show " + id1, answers: map[string][]string{"GET /dlq/messages/" + id1: {`{"id":"` + id1 + `","status":"open","code":"undecodable","fingerprint":"x","value":"AP8=","value_encoding":"base64","key":null}`}}, golden: "show-bytes.txt",
	},
	"show nothing": {args: "show " + id2, code: exitFailed, err: "there is no such dead letter (message_not_found)"},

	"replay of letters": {
		args: "replay " + id1 + " --yes --reason fixed " + id2, answers: map[string][]string{"POST /dlq/replays": {"429{}", bulk("replay", "completed", false, `{"refused":1,"resolved":2}`)}},
		code: exitFailed, golden: "replay-ids.txt",
		requests: []string{
			`POST /dlq/replays {"force":false,"ids":["` + id1 + `","` + id2 + `"],"rate_per_second":200,"reason":"fixed","target":"function"}`,
			`POST /dlq/replays {"force":false,"ids":["` + id1 + `","` + id2 + `"],"rate_per_second":200,"reason":"fixed","target":"function"}`,
		},
	},
	"replay of a letter": {
		args: "replay " + id1 + " --yes --reason fixed --target topic", answers: map[string][]string{"POST /dlq/messages/" + id1 + "/replay": {changed("resolved")}},
		out: id1 + "  resolved\n", requests: []string{"POST /dlq/messages/" + id1 + `/replay {"force":false,"reason":"fixed","target":"topic"}`},
	},
	"replay of a letter that is refused": {
		args: "replay --yes " + id1, answers: map[string][]string{"POST /dlq/messages/" + id1 + "/replay": {changed("open")}},
		code: exitFailed, out: id1 + "  refused: invalid_price: still\\x1b[1m negative\n",
	},
	"replay of a letter that is asked about": {
		args: "replay " + id1, in: "yes\n", golden: "replay.txt", err: "Replay 3 letters? [y/N]",
		answers: map[string][]string{"POST /dlq/replays": {bulk("replay", "completed", true, `{"resolved":1}`)}, "POST /dlq/messages/" + id1 + "/replay": {changed("resolved")}},
	},
	"replay that nobody wants": {
		args: "replay " + id1, in: "\n", code: exitFailed, golden: "replay-no.txt", err: "Replay 3 letters? [y/N]",
		answers:  map[string][]string{"POST /dlq/replays": {bulk("replay", "completed", true, `{"resolved":1}`)}},
		requests: []string{`POST /dlq/replays {"dry_run":true,"force":false,"ids":["` + id1 + `"],"rate_per_second":200,"target":"function"}`},
	},
	"replay that nobody can be asked about": {args: "replay " + id1, code: exitUsage, err: "--yes", requests: []string{}},
	"replay of a filter": {
		args: "replay --symbol AAPL --rate 7 --force --reason why", in: "y\n", code: exitFailed, golden: "replay-many.txt", err: "Replay 3 letters? [y/N]",
		answers: map[string][]string{
			"POST /dlq/replays": {bulk("replay", "running", true, "{}"), bulk("replay", "running", false, "{}")},
			"GET /dlq/replays/" + run1: {
				bulk("replay", "running", true, "{}"), bulk("replay", "completed", true, `{"resolved":2,"refused":1}`), bulk("replay", "completed", false, `{"resolved":2,"refused":1,"sent":0}`),
			},
		},
		requests: []string{
			`POST /dlq/replays {"dry_run":true,"filter":{"symbol":"AAPL"},"force":true,"rate_per_second":7,"reason":"why","target":"function"}`,
			"GET /dlq/replays/" + run1, "GET /dlq/replays/" + run1,
			`POST /dlq/replays {"filter":{"symbol":"AAPL"},"force":true,"rate_per_second":7,"reason":"why","target":"function"}`,
			"GET /dlq/replays/" + run1,
		},
	},
	"replay with a transform": {
		args: "replay " + id1 + " --yes --transform .price|=tonumber", answers: map[string][]string{"POST /dlq/replays": {bulk("replay", "completed", false, `{"resolved":2,"refused":1}`)}},
		code: exitFailed, golden: "replay-ids.txt",
		requests: []string{`POST /dlq/replays {"force":false,"ids":["` + id1 + `"],"rate_per_second":200,"target":"function","transform":".price|=tonumber"}`},
	},
	"replay of all, as JSON": {
		args: "replay --all --yes --json", answers: map[string][]string{"POST /dlq/replays": {bulk("replay", "completed", false, `{"resolved":2}`) + "\n"}},
		out:      bulk("replay", "completed", false, `{"resolved":2}`) + "\n",
		requests: []string{`POST /dlq/replays {"filter":{},"force":false,"rate_per_second":200,"target":"function"}`},
	},
	"plan": {
		args: "replay --all --dry-run", answers: map[string][]string{"POST /dlq/replays": {bulk("replay", "completed", true, `{"resolved":2}`)}}, golden: "plan.txt",
	},
	"replay that is stopped": {
		args: "replay --all --yes", answers: map[string][]string{"POST /dlq/replays": {strings.Replace(bulk("replay", "stopped", false, `{"refused":2}`), `"stop_reason":null`, `"stop_reason":"too many"`, 1)}},
		code: exitFailed, golden: "stopped.txt",
	},
	"replay of nothing":        {args: "replay --yes", code: exitUsage, err: "give the ids of letters, a filter, or --all", requests: []string{}},
	"replay of two selections": {args: "replay --yes --all " + id1, code: exitUsage, err: "only one of them", requests: []string{}},

	"discard of a letter": {
		args: "discard " + id1 + " --reason known", out: id1 + "  discarded\n", answers: map[string][]string{"POST /dlq/messages/" + id1 + "/discard": {changed("discarded")}},
		requests: []string{"POST /dlq/messages/" + id1 + `/discard {"reason":"known"}`},
	},
	"discard of a letter that is settled": {
		args: "discard " + id1 + " --reason known", code: exitFailed, err: "the letter is resolved, not open (not_open)",
		answers: map[string][]string{"POST /dlq/messages/" + id1 + "/discard": {`409{"detail":"the letter is resolved, not open","code":"not_open"}`}},
	},
	"discard as JSON": {
		args: "discard " + id1 + " --json --reason known", out: changed("discarded") + "\n", answers: map[string][]string{"POST /dlq/messages/" + id1 + "/discard": {changed("discarded")}},
	},
	"discard of letters": {
		args: "discard " + id1 + " " + id2 + " --reason known", golden: "discard.txt", answers: map[string][]string{"POST /dlq/discards": {bulk("discard", "completed", false, `{"discarded":2}`)}},
		requests: []string{`POST /dlq/discards {"ids":["` + id1 + `","` + id2 + `"],"reason":"known"}`},
	},
	"discard of a filter": {
		args: "discard --q x --reason known", in: "y\n", golden: "discard-many.txt", err: "Discard 3 letters? [y/N]",
		answers:  map[string][]string{"POST /dlq/discards": {bulk("discard", "completed", true, `{"discarded":2}`), bulk("discard", "completed", false, `{"discarded":2}`)}},
		requests: []string{`POST /dlq/discards {"dry_run":true,"filter":{"q":"x"},"reason":"known"}`, `POST /dlq/discards {"filter":{"q":"x"},"reason":"known"}`},
	},
	"discard that nobody can be asked about": {args: "discard --all --reason x", code: exitUsage, err: "--yes", requests: []string{}},
	"discard without a reason":               {args: "discard " + id1, code: exitUsage, err: "--reason", requests: []string{}},
	"discard by a reader": {
		args: "discard " + id1 + " --reason x", code: exitNoEntry, err: "may only read (read_only_token)",
		answers: map[string][]string{"POST /dlq/messages/" + id1 + "/discard": {`403{"detail":"the token of rita may only read","code":"read_only_token"}`}},
	},

	"nothing":                    {args: "", golden: "usage.txt"},
	"help":                       {args: "--help", golden: "usage.txt"},
	"help of list":               {args: "list --help", golden: "usage-list.txt"},
	"help of groups":             {args: "groups --help", golden: "usage-groups.txt"},
	"help of show":               {args: "show -h", golden: "usage-show.txt"},
	"help of replay":             {args: "replay --help", golden: "usage-replay.txt"},
	"help of discard":            {args: "discard --help", golden: "usage-discard.txt"},
	"help of watch":              {args: "watch --help", golden: "usage-watch.txt"},
	"unknown command":            {args: "lits", code: exitUsage, err: `unknown command "lits"`},
	"unknown flag":               {args: "list --stats", code: exitUsage, err: "-stats"},
	"argument of list":           {args: "list open", code: exitUsage, err: `unexpected argument "open"`},
	"id that is none":            {args: "show 1/../../stats", code: exitUsage, err: "is not the id of a letter", requests: []string{}},
	"wrong token":                {args: "list", token: "wrong", code: exitNoEntry, err: "the operator token is not known (unauthorized)"},
	"answer of something else":   {args: "list", answers: map[string][]string{"GET /dlq/messages": {"<html>"}}, code: exitFailed, err: "the answer is not that of dlq-inspector"},
	"gateway without a function": {args: "groups", answers: map[string][]string{"GET /dlq/groups": {"502<html>\x1b[2J"}}, code: exitFailed, err: "the gateway answered 502 Bad Gateway\n"},
}

func TestCommands(t *testing.T) {
	t.Parallel()
	for name, r := range rows {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &inspector{answers: map[string][]string{}, requests: []string{}}
			for route, answers := range r.answers {
				for _, a := range answers {
					if strings.HasSuffix(a, ".json") {
						a = testdata(t, a)
					}
					s.answers[route] = append(s.answers[route], a)
				}
			}
			server := httptest.NewServer(s)
			defer server.Close()
			api := &client{base: server.URL + "/", token: "secret", every: time.Microsecond}
			if r.token != "" {
				api.token = r.token
			}
			if r.width == 0 {
				r.width = 120
			}
			var out, errs bytes.Buffer
			code := run(t.Context(), strings.Fields(r.args), api, r.width, streams{In: strings.NewReader(r.in), Out: &out, Err: &errs, Asks: r.in != ""})
			require.Equal(t, r.code, code, "%s%s", out.String(), errs.String())
			require.Contains(t, errs.String(), r.err)
			if r.err == "" {
				require.Empty(t, errs.String())
			}
			if r.golden != "" {
				if *update && strings.HasSuffix(r.golden, ".txt") {
					require.NoError(t, os.WriteFile(filepath.Join("testdata", r.golden), out.Bytes(), 0o600))
				}
				r.out = testdata(t, r.golden)
			}
			require.Equal(t, r.out, out.String())
			if strings.HasSuffix(r.golden, ".txt") {
				requireShown(t, out.String(), r.width)
			}
			requireShown(t, errs.String(), 1000)
			if r.requests != nil {
				require.Equal(t, r.requests, s.requests)
			}
		})
	}
}

// requireShown requires lines that a terminal shows as they are.
func requireShown(t *testing.T, text string, width int) {
	t.Helper()
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		require.False(t, strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) && r != '\t' }), "%q", line)
		require.LessOrEqual(t, len([]rune(line)), width, line)
	}
}

func TestUnreachableGateway(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	for name, base := range map[string]string{"nobody listens": server.URL, "no URL": "::", "no scheme": "localhost:8000"} {
		for _, args := range []string{"list", "watch", "replay --all --yes", "discard --reason x " + id1} {
			t.Run(name+": "+args, func(t *testing.T) {
				t.Parallel()
				var errs bytes.Buffer
				code := run(t.Context(), strings.Fields(args), &client{base: base, token: "secret"}, 120, streams{In: strings.NewReader(""), Out: io.Discard, Err: &errs})
				require.Equal(t, exitNoEntry, code)
				require.NotContains(t, errs.String(), "secret")
			})
		}
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

func TestOutputThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(&inspector{answers: map[string][]string{"GET /dlq/messages": {testdata(t, "list.json")}}})
	defer server.Close()
	var errs bytes.Buffer
	require.Equal(t, exitFailed, run(t.Context(), []string{"list"}, &client{base: server.URL, token: "secret"}, 120, streams{Out: full{}, Err: &errs}))
	require.Contains(t, errs.String(), "no space left on device")
}

// watch prints what fails while it runs, oldest first, whatever happens in between, and ends with the context.
func TestWatch(t *testing.T) {
	t.Parallel()
	page := func(all ...string) string {
		return `{"messages":[` + strings.Join(all, ",") + `],"next_page_token":null}`
	}
	one := func(id string, failures int) string {
		return fmt.Sprintf(`{"id":%q,"symbol":"AAPL","code":"invalid_price","reason":"\u001b[2J","offset":9007199254740993,"last_failed_at":"2024-03-20T11:30:0%dZ","failure_count":%d}`, id, failures, failures)
	}
	for name, want := range map[string]string{
		"":       "2024-03-20 11:30:01  " + id2 + "  AAPL  invalid_price: \\x1b[2J\n2024-03-20 11:30:02  " + id1 + "  AAPL  invalid_price: \\x1b[2J\n",
		"--json": one(id2, 1) + "\n" + one(id1, 2) + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &inspector{answers: map[string][]string{"GET /dlq/messages": {
				page(one(id1, 1)), page(one(id1, 1)), `503{"detail":"storage is away","code":"storage_unavailable"}`, `503{}`, page(one(id1, 2), one(id2, 1)), page(one(id1, 2), one(id2, 1)),
			}}}
			server := httptest.NewServer(s)
			defer server.Close()
			ctx, cancel := context.WithCancel(t.Context())
			out, errs := &until{n: strings.Count(want, "\n"), done: cancel}, &bytes.Buffer{}
			code := run(ctx, strings.Fields("watch --symbol AAPL "+name), &client{base: server.URL, token: "secret", every: time.Microsecond}, 120, streams{Out: out, Err: errs})
			require.Equal(t, exitDone, code, errs.String())
			require.Equal(t, want, out.String())
			require.Equal(t, "dlq-inspector watch: storage is away (storage_unavailable)\n", errs.String(), "it says so once")
			require.Contains(t, s.requests[0], "symbol=AAPL")
		})
	}
}

// until calls done after n lines.
type until struct {
	bytes.Buffer

	n    int
	done func()
}

func (u *until) Write(b []byte) (int, error) {
	n, err := u.Buffer.Write(b)
	if strings.Count(u.String(), "\n") >= u.n {
		u.done()
	}
	return n, err
}

func TestSafe(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"plain é 日 \u05d0": "plain é 日 \u05d0", "\x1b[2J": `\x1b[2J`, "a\nb\tc\r": `a\nb\tc\r`, "\u202e\u2066\u200f\ufeff": `\u202e\u2066\u200f\ufeff`,
		"\xff\xc3": `\xff\xc3`, "\u0085\u009b": `\u0085\u009b`, "\u2028": `\u2028`, "\u00a0": `\u00a0`, "\x00\x7f": `\x00\x7f`, "\U000e0041": `\U000e0041`, "\ufffd": "\ufffd",
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, want, safe(in))
		})
	}
}

// A value is shown in its lines; a long one is cut, between two characters.
func TestLongValue(t *testing.T) {
	t.Parallel()
	value := strings.Repeat("é", shownText)
	answer, err := json.Marshal(map[string]any{"id": id1, "value": "x" + value, "value_encoding": "text"})
	require.NoError(t, err)
	server := httptest.NewServer(&inspector{answers: map[string][]string{"GET /dlq/messages/" + id1: {string(answer)}}})
	defer server.Close()
	var out bytes.Buffer
	require.Equal(t, exitDone, run(t.Context(), []string{"show", id1}, &client{base: server.URL, token: "secret"}, 120, streams{Out: &out, Err: io.Discard}))
	require.Contains(t, out.String(), "x"+strings.Repeat("é", shownText/2-1)+"\n  … 4098 more bytes: --raw writes all\n")
}
