package transform_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/functions/dlq-inspector/internal/transform"
	"marketdata/shared/fault"
)

// FuzzRun runs any program on any value: within its time, the result is a JSON value of bounded size, and the same each time, or the
// program is refused.
func FuzzRun(f *testing.F) {
	for _, seed := range [][2]string{
		{".", `{"a":` + long + `,"a\u0000":1e400}`},
		{".price |= tonumber", `{"price":"1.10"}`},
		{`"\(.a)-\(1 + .b)"`, `{"a":[1.0],"b":0.1}`},
		{"[range(1000000)]", "1"},
		{"def f: f; f", "1"},
		{`until(false; . + .)`, `"x"`},
		{"reduce range(1000000) as $x (.; [.])", "1"},
		{".[100000000] = 1", "[]"},
		{"[limit(3; repeat(.))] | sort_by(.)", "1.5"},
		{"input", "1"},
		{"$ENV.PATH", "1"},
		{"try error catch .", `{"a":1}`},
		{"include \"x\"; .", "1"},
		{".. |= (. as [$a, {b: $c}] ?// $a | $c)", `[1,{"b":2}]`},
		{"@base64d | test(\"(a+)+$\")", `"YWFhYWFhYWFhYWFhYWFhYWFhYWEh"`},
		{`gsub("";"x")`, `"` + strings.Repeat("a", 1000) + `"`},
		{`.a as $x | "\("\("\($x)")")"`, `{"a":1}`},
		{"ltrimstr(1) // @sh", `"\ud800"`},
		{"1", "1 2"},
		{"reduce range(21) as $x (.; [., .])", "1"},
	} {
		f.Add(seed[0], []byte(seed[1]))
	}
	f.Fuzz(func(t *testing.T, source string, value []byte) {
		start := time.Now()
		p, err := transform.Compile(source)
		require.Less(t, time.Since(start), 5*time.Second)
		if err != nil {
			require.Equal(t, fault.CodeInvalidParameter, fault.CodeOf(err))
			return
		}
		out, err := p.Run(t.Context(), value)
		require.Less(t, time.Since(start), 10*time.Second)
		if err != nil {
			require.Contains(t, []string{fault.CodeInexact, fault.CodeTransformFailed}, fault.CodeOf(err))
			require.Empty(t, out)
			return
		}
		require.True(t, json.Valid(out) || strings.Count(string(out), "[")+strings.Count(string(out), "{") > 10_000, "%.200s", out)
		require.True(t, json.Valid(bytes.TrimPrefix(value, []byte("\ufeff"))), "%.200q", value)
		require.LessOrEqual(t, len(out), transform.MaxBytes)
		if again, err := p.Run(t.Context(), value); err == nil {
			require.Equal(t, string(out), string(again))
		}
	})
}
