package supervisor

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
	require.Equal(t, "poll             INFO  request a=x status=204\npoll            not json\n", out.String())
}
