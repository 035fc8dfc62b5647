package transform_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/functions/dlq-inspector/internal/transform"
	"marketdata/shared/fault"
)

const long = "12345678901234567890.123456789012345678"

func run(t *testing.T, program, value string) (string, error) {
	t.Helper()
	p, err := transform.Compile(program)
	require.NoError(t, err)
	out, err := p.Run(t.Context(), []byte(value))
	return string(out), err
}

func TestResults(t *testing.T) {
	t.Parallel()
	for program, rows := range map[string][][2]string{
		".": {
			{` {"b":1.10, "a":[1e3,-0,1E400]} `, `{"a":[1e3,-0,1E400],"b":1.10}`}, {"\xEF\xBB\xBF" + long, long}, {`"<é>"`, `"<é>"`}, {`null`, `null`},
		},
		".a | tonumber":                {{`{"a":"` + long + `"}`, long}, {`{"a":` + long + `}`, long}, {`{"a":"1.10"}`, `1.10`}, {`{"a":".5"}`, `0.5`}, {`{"a":"007"}`, `7`}},
		".a | tostring":                {{`{"a":` + long + `}`, `"` + long + `"`}, {`{"a":1E400}`, `"1E400"`}, {`{"a":[1.0]}`, `"[1.0]"`}},
		`"\(.a)/\(.a | tojson)"`:       {{`{"a":` + long + `}`, `"` + long + `/` + long + `"`}},
		".a | @json":                   {{`{"a":1.10}`, `"1.10"`}},
		"[.a] | @csv":                  {{`{"a":` + long + `}`, `"` + long + `"`}},
		"fromjson":                     {{`"{\"a\":` + long + `}"`, `{"a":` + long + `}`}},
		".a + .b":                      {{`{"a":0.1,"b":0.2}`, `0.3`}, {`{"a":` + long + `,"b":1}`, `12345678901234567891.123456789012345678`}, {`{"a":"x","b":"y"}`, `"xy"`}, {`{"a":null,"b":1.10}`, `1.10`}, {`{"a":[1.0],"b":[2]}`, `[1.0,2]`}},
		".a - .b":                      {{`{"a":1,"b":0.9}`, `0.1`}, {`{"a":[1,2],"b":[2]}`, `[1]`}},
		".a * .b":                      {{`{"a":1.1,"b":1.1}`, `1.21`}, {`{"a":"ab","b":2}`, `"abab"`}, {`{"a":{"x":1},"b":{"y":2.0}}`, `{"x":1,"y":2.0}`}},
		".a / .b":                      {{`{"a":1,"b":8}`, `0.125`}, {`{"a":` + long + `,"b":1000}`, `12345678901234567.890123456789012345678`}, {`{"a":"a,b","b":","}`, `["a","b"]`}, {`{"a":1e3,"b":1e-3}`, `1000000`}},
		".a % .b":                      {{`{"a":12345678901234567890,"b":7}`, `1`}, {`{"a":-7,"b":2}`, `-1`}},
		"-.a":                          {{`{"a":` + long + `}`, `-` + long}},
		".a += 0.1":                    {{`{"a":0.2}`, `{"a":0.3}`}},
		".a /= .b":                     {{`{"a":` + long + `,"b":10}`, `{"a":1234567890123456789.0123456789012345678,"b":10}`}},
		".[] += 1":                     {{`[1,0.5]`, `[2,1.5]`}},
		".a //= 1.10":                  {{`{}`, `{"a":1.10}`}},
		long:                           {{`null`, long}},
		"1.10":                         {{`null`, `1.10`}},
		".a < .b":                      {{`{"a":` + long + `,"b":12345678901234567890.123456789012345679}`, `true`}},
		".a == .b":                     {{`{"a":` + long + `,"b":12345678901234567890.123456789012345679}`, `false`}, {`{"a":1.0,"b":1}`, `true`}, {`{"a":{"x":[1.0]},"b":{"x":[1]}}`, `true`}},
		"add":                          {{`[0.1,0.2]`, `0.3`}, {`["a","b"]`, `"ab"`}, {`[]`, `null`}, {`{"x":1.10}`, `1.10`}},
		"add(.[] | tonumber)":          {{`["0.1","0.2"]`, `0.3`}},
		"abs":                          {{`-` + long, long}},
		"floor":                        {{`1.5`, `1`}, {`-1.5`, `-2`}},
		"sort":                         {{`[2.5,1]`, `[1,2.5]`}},
		"max_by(.a)":                   {{`[{"a":1},{"a":2.5}]`, `{"a":2.5}`}},
		". / 1000 | todate":            {{`1711967400123`, `"2024-04-01T10:30:00.123Z"`}, {`1711967400000`, `"2024-04-01T10:30:00Z"`}},
		"fromdate":                     {{`"2024-04-01T10:30:00Z"`, `1711967400`}},
		`strftime("%Y")`:               {{`1711967400`, `"2024"`}},
		"[range(3)]":                   {{`{"x":0.5}`, `[0,1,2]`}},
		"def tonumber: 7; tonumber":    {{`"1"`, `7`}},
		"def f($x; g): g + $x; f(1;.)": {{`0.1`, `1.1`}},
		"def f(x): x; f(.)":            {{`0.1`, `0.1`}},
		"map(select(. > 1))":           {{`[1,` + long + `]`, `[` + long + `]`}},
		"to_entries | from_entries":    {{`{"a":` + long + `}`, `{"a":` + long + `}`}},
		"with_entries(.value |= tonumber)": {
			{`{"a":"` + long + `"}`, `{"a":` + long + `}`},
		},
		"walk(if type == \"number\" then . * 2 else . end)": {{`{"a":[0.1]}`, `{"a":[0.2]}`}},
		"reduce .[] as {$a} (0; . + $a)":                    {{`[{"a":0.1},{"a":0.2}]`, `0.3`}},
		"[foreach .[] as $x (0; . + $x)]":                   {{`[0.1,0.2]`, `[0.1,0.3]`}},
		".a.b[1:][0]":                                       {{`{"a":{"b":[1,` + long + `]}}`, long}},
		".[1] = 5":                                          {{`[1.0]`, `[1.0,5]`}},
		".[\"a\"] |= . + 1":                                 {{`{"a":0.1}`, `{"a":1.1}`}},
		"del(.a)":                                           {{`{"a":1,"b":1.0}`, `{"b":1.0}`}},
		"setpath([\"a\",0]; 1.0)":                           {{`{}`, `{"a":[1.0]}`}},
		"try error(\"x\") catch .":                          {{`1`, `"x"`}},
		"(.a | tonumber)? // 0":                             {{`{"a":"x"}`, `0`}},
		`gsub("[$,]"; "") | tonumber`:                       {{`"$12,345.10"`, `12345.10`}},
		`limit(1; .[])`:                                     {{`[1.0,2]`, `1.0`}},
		`[paths]`:                                           {{`{"a":[1]}`, `[["a"],["a",0]]`}},
		`.price |= tonumber | .timestamp |= (. / 1000 | todate)`: {
			{`{"price":"` + long + `","timestamp":1711967400123}`, `{"price":` + long + `,"timestamp":"2024-04-01T10:30:00.123Z"}`},
		},
	} {
		for _, row := range rows {
			t.Run(program+" of "+row[0], func(t *testing.T) {
				t.Parallel()
				got, err := run(t, program, row[0])
				require.NoError(t, err)
				require.Equal(t, row[1], got)
			})
		}
	}
}

// A number whose digits would be lost is refused, with the expression, whatever the program does about it.
func TestDigitsAreNotLost(t *testing.T) {
	t.Parallel()
	for program, c := range map[string]struct{ value, reason string }{
		".price / 3":                  {`{"price":10}`, "`.price / 3` is not exact: 10 divided by 3 has digits without end"},
		"(.price / 3)? // 0":          {`{"price":10}`, "`.price / 3`"},
		"try (.price / 3) catch 0":    {`{"price":10}`, "`.price / 3`"},
		".price /= 3":                 {`{"price":10}`, "`.price /= 3`"},
		".price % 2":                  {`{"price":1.5}`, "`.price % 2` is not exact: 1.5 % 2 would drop the digits after the point"},
		"floor":                       {long, "`floor` is not exact: " + long + " has more digits than it can read"},
		"sort":                        {`[9007199254740993]`, "`sort`"},
		"[.[] | round]":               {`[1, 0.99999999999999999999]`, "`round`"},
		"index(12345678901234567891)": {`[1]`, "`index(12345678901234567891)`"},
		"max_by(.a)":                  {`[{"a":` + long + `}]`, "`max_by(.a)`"},
		"[range(.a)]":                 {`{"a":0.5}`, "`range(.a)` is not exact: 0.5 is not a whole number"},
		"gmtime":                      {`1.5`, "`gmtime`"},
		`strftime("%s")`:              {`1.5`, "`strftime(\"%s\")`"},
		"todate":                      {`1.0123456789`, "`todate`"},
		".a + .b":                     {`{"a":1e6000,"b":1}`, "too long to calculate with"},
		"[1.0] - .":                   {`[` + long + `]`, "`[1.0] - .`"},
	} {
		t.Run(program, func(t *testing.T) {
			t.Parallel()
			out, err := run(t, program, c.value)
			require.Equal(t, fault.CodeInexact, fault.CodeOf(err), out)
			require.ErrorContains(t, err, c.reason)
		})
	}
}

func TestProgramsThatFail(t *testing.T) {
	t.Parallel()
	for program, c := range map[string]struct{ value, reason string }{
		"empty":                              {`1`, "no result"},
		".[]":                                {`[1,2]`, "more than one result"},
		"1, error(\"x\")":                    {`1`, "x"},
		"error(\"it is \" + .)":              {`"bad"`, "it is bad"},
		".a":                                 {`1`, "expected an object"},
		".":                                  {`{"a":1,"a":2}`, "the value is not JSON"},
		".b":                                 {"\xff", "the value is not JSON"},
		".c":                                 {"1 2", "the value is not JSON"},
		".d":                                 {"", "the value is not JSON"},
		"tonumber":                           {`"nan"`, `tonumber: "nan" is not a number`},
		"tonumber ":                          {`"0x10"`, "is not a number"},
		"fromjson":                           {`"NaN"`, "not JSON"},
		". / 0":                              {`1`, "division by zero"},
		"def f: f; f":                        {`1`, "the program takes longer than 50ms"},
		"[limit(9e9; repeat(1))]":            {`1`, "the program takes longer than 50ms"},
		"last(range(1e9))":                   {`1`, "the program takes longer than 50ms"},
		"(. * 1e9) | length":                 {`"x"`, "would make a value of more than"},
		". * 2000000":                        {`"x"`, "would make a value of more than"},
		".[536870911] = 1":                   {`[]`, "index 536870911 is too large"},
		"setpath([536870911]; 1)":            {`[]`, "index 536870911 is too large"},
		".[.[0]] |= 1":                       {`[536870911]`, "index 536870911 is too large"},
		"[range(20) | \"x\" * 60000]":        {`1`, "the result has more than"},
		"reduce range(60) as $i (1; [., .])": {`1`, "the result has more than"},
		"reduce range(60) as $i (1; [., .]) | tojson":    {`1`, "the result has more than"},
		"reduce range(60) as $i (1; [., .]) | @text":     {`1`, "the result has more than"},
		"reduce range(60) as $i (1; [., .]) | \"\\(.)\"": {`1`, "the result has more than"},
		"reduce range(60) as $i (1; [., .]) | . == .":    {`1`, "too large to be compared"},
		"reduce range(60) as $i (1; [., .]) | flatten":   {`1`, "the value is too large"},
		"reduce range(60) as $i (\"x\"; . + .) | length": {`1`, "would make a value of more than"},
		"reduce range(60) as $i ([1]; . + .) | length":   {`1`, "would make a value of more than"},
		// gojq takes a load and the pop behind it away, but another branch jumps to the pop
		". != (. as [$a] | $a // $a | $a)": {`[{}]`, "jq mixes up the operands"},
		"1 + (. as [$a] | $a // $a | $a)":  {`[2]`, "jq mixes up the operands"},
		"(. as [$a] | $a // $a | 5) * 2":   {`[2]`, "jq mixes up the operands"},
	} {
		t.Run(program, func(t *testing.T) {
			t.Parallel()
			if c.reason == "" {
				_, err := transform.Compile(program)
				require.Error(t, err)
				return
			}
			began := time.Now()
			out, err := run(t, program, c.value)
			for err != nil && strings.Contains(err.Error(), "takes longer") && !strings.Contains(c.reason, "takes longer") && time.Since(began) < 4*time.Second {
				out, err = run(t, program, c.value) // the machine is busy
			}
			require.Equal(t, fault.CodeTransformFailed, fault.CodeOf(err), out)
			require.ErrorContains(t, err, c.reason)
		})
	}
}

func TestProgramsThatDoNotCompile(t *testing.T) {
	t.Parallel()
	for program, reason := range map[string]string{
		".a |\n .b ||":           "(line 2, column 6)",
		"\"é\" |":                "(line 1, column 6)",
		"}":                      "(line 1, column 1)",
		"nothing":                "nothing/0 is not defined here",
		"input":                  "input/0 is not defined here",
		"[inputs]":               "inputs/0 is not defined here",
		"env.HOME":               "env/0 is not defined here",
		"$ENV.HOME":              "$ENV is not defined here",
		"$x":                     "variable not defined: $x",
		"now":                    "now/0 is not defined here",
		"sqrt":                   "sqrt/0 is not defined here",
		"[.[] | pow(.; 2)]":      "pow/2 is not defined here",
		"halt":                   "halt/0 is not defined here",
		"debug":                  "debug/0 is not defined here",
		"infinite":               "infinite/0 is not defined here",
		`import "a" as a; .`:     "there are no modules",
		`include "a"; .`:         "there are no modules",
		`modulemeta`:             "modulemeta/0 is not defined here",
		`_add(1; 2)`:             "_add/2 is not defined here",
		`{a: (. as [$x] | env)}`: "env/0 is not defined here",
		strings.Repeat(" ", transform.MaxProgramBytes+1):              "more than 10000 bytes",
		strings.Repeat("(", 4900) + "." + strings.Repeat(")", 4900):   "nested too deeply",
		strings.Repeat("[1+", 2400) + "1" + strings.Repeat("]", 2400): "nested too deeply",
	} {
		t.Run(program[:min(len(program), 40)], func(t *testing.T) {
			t.Parallel()
			_, err := transform.Compile(program)
			require.Equal(t, fault.CodeInvalidParameter, fault.CodeOf(err))
			require.ErrorContains(t, err, reason)
		})
	}
}

// The parts of a nested text must not double with each level.
func TestANestedTextIsCompiledInItsOwnSize(t *testing.T) {
	t.Parallel()
	_, err := transform.Compile(strings.Repeat(`"\(`, 100) + "." + strings.Repeat(`)"`, 100))
	require.NoError(t, err)
}

// decimals returns random JSON with random decimal numbers.
func decimals(r *rand.Rand, depth int) string {
	digits := func(n int) string {
		var b strings.Builder
		for range n {
			b.WriteByte(byte('0' + r.IntN(10)))
		}
		return b.String()
	}
	switch n := r.IntN(8); {
	case n == 0 && depth > 0:
		return fmt.Sprintf("[%s,%s]", decimals(r, depth-1), decimals(r, depth-1))
	case n == 1 && depth > 0:
		return fmt.Sprintf(`{"a":%s,"b":%s}`, decimals(r, depth-1), decimals(r, depth-1))
	case n == 2:
		return fmt.Sprintf("%q", digits(r.IntN(5)))
	}
	text := []string{"", "-"}[r.IntN(2)] + []string{"0", fmt.Sprint(1+r.IntN(9), digits(r.IntN(40)))}[r.IntN(2)]
	if r.IntN(2) == 0 {
		text += "." + digits(1+r.IntN(40))
	}
	if r.IntN(3) == 0 {
		text += []string{"e", "E", "e+", "e-"}[r.IntN(4)] + digits(1+r.IntN(3))
	}
	return text
}

// compact returns JSON with its members sorted and the digits of its numbers.
func compact(t *testing.T, text string) string {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var v any
	require.NoError(t, d.Decode(&v))
	out, err := json.Marshal(v)
	require.NoError(t, err)
	return string(out)
}

// Whatever is moved keeps each digit.
func TestEachDigitIsKept(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))
	programs := map[string]*transform.Program{}
	for _, source := range []string{".", ".a", "{b:.a}", "[.a]", ".a|tostring", ".a|tostring|tonumber", ".a|tojson|fromjson", ".a + 0 - 0"} {
		var err error
		programs[source], err = transform.Compile(source)
		require.NoError(t, err)
	}
	for range 3000 {
		a := decimals(random, 3)
		value := fmt.Sprintf(`{"c":%s,"a":%s}`, decimals(random, 3), a)
		for source, want := range map[string]string{
			".": compact(t, value), ".a": compact(t, a), "{b:.a}": compact(t, `{"b":`+a+`}`), "[.a]": compact(t, `[`+a+`]`), ".a|tojson|fromjson": compact(t, a),
		} {
			got, err := programs[source].Run(t.Context(), []byte(value))
			require.NoError(t, err, value)
			require.Equal(t, want, string(got), "%s of %s", source, value)
		}
		if strings.ContainsAny(a[:1], `[{"`) {
			continue
		}
		got, err := programs[".a|tostring"].Run(t.Context(), []byte(value))
		require.NoError(t, err)
		require.Equal(t, `"`+a+`"`, string(got))
		got, err = programs[".a|tostring|tonumber"].Run(t.Context(), []byte(value))
		require.NoError(t, err)
		require.Equal(t, a, string(got))
		got, err = programs[".a + 0 - 0"].Run(t.Context(), []byte(value))
		require.NoError(t, err)
		equal, err := run(t, ".[0] == .[1]", fmt.Sprintf("[%s,%s]", a, got))
		require.NoError(t, err)
		require.Equal(t, "true", equal, "%s is %s", a, got)
	}
}

func TestAProgramRunsForManyLettersAtOnce(t *testing.T) {
	t.Parallel()
	p, err := transform.Compile(".a / .b")
	require.NoError(t, err)
	var all sync.WaitGroup
	for i := range 10 {
		all.Go(func() {
			for j := 1; j < 50; j++ {
				out, err := p.Run(context.Background(), fmt.Appendf(nil, `{"a":%d,"b":%d}`, i*3, 3*(j%2)+1))
				if j%2 == 0 {
					if err != nil || string(out) != fmt.Sprint(i*3) {
						panic(fmt.Sprint(i, j, string(out), err))
					}
				}
			}
		})
	}
	all.Wait()
}

func TestAnAbandonedRunHasNoVerdict(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p, err := transform.Compile(".")
	require.NoError(t, err)
	_, err = p.Run(ctx, []byte("1"))
	require.ErrorIs(t, err, context.Canceled)
}

func BenchmarkRun(b *testing.B) {
	p, err := transform.Compile(".price |= tonumber | .timestamp |= (. / 1000 | todate)")
	require.NoError(b, err)
	value := []byte(`{"symbol":"AAPL","price":"` + long + `","timestamp":1711967400123,"source":"x","raw_response_id":"0190f5d8-0000-7000-8000-000000000001"}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Run(b.Context(), value); err != nil {
			b.Fatal(err)
		}
	}
}
