package console

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestReadableLines(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	r := newReadable(&out, "poll")
	for _, piece := range []string{`{"level":"INFO","msg":"re`, "quest\",\"status\":204,\"function\":\"poll\",\"a\":\"x\"}\nnot json\n", "tail"} {
		_, err := r.Write([]byte(piece))
		require.NoError(t, err)
	}
	require.Equal(t, "poll             INFO  request status=204 a=x\npoll            not json\n", out.String())
}

func TestReadableShowsEveryValue(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		`{"time":"nonsense","level":"WARN","msg":"a \"b\", c","n":-1.5e3 , "o":{"x":[1,{"y":"}"}],"z":"]"},"e":"","last":null}`: `nonsense WARN  a "b", c n=-1.5e3 o={"x":[1,{"y":"}"}],"z":"]"} e= last=null`,
		`{}`:             `       `,
		`{"msg":"cut`:    `{"msg":"cut`,
		`{"a":1}{"b":2}`: `{"a":1}{"b":2}`,
		`["a"]`:          `["a"]`,
		``:               ``,
	} {
		require.Equal(t, want, string(appendReadable(nil, []byte(line))), line)
	}
	at := appendReadable(nil, []byte(`{"time":"2026-01-02T03:04:05.678901234Z","level":"INFO","msg":"x"}`))
	require.Regexp(t, `^\d\d:\d\d:\d\d\.678 INFO  x$`, string(at))
}
