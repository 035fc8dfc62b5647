// Package scrape reads metrics in Prometheus' text format, for tests. It needs no services.
package scrape

import (
	"bufio"
	"bytes"
	"io"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Values returns the values that write writes, by series with labels: http_requests_total{route="GET /",status="200"}.
func Values(tb testing.TB, write func(io.Writer)) map[string]float64 {
	tb.Helper()
	var text bytes.Buffer
	write(&text)
	values := map[string]float64{}
	lines := bufio.NewScanner(&text)
	for lines.Scan() {
		line := lines.Text()
		if strings.HasPrefix(line, "#") {
			continue
		}
		at := strings.LastIndexByte(line, ' ')
		require.Positive(tb, at, line)
		v, err := strconv.ParseFloat(line[at+1:], 64)
		require.NoError(tb, err, line)
		require.NotContains(tb, values, line[:at], "a series is repeated")
		values[line[:at]] = v
	}
	require.NoError(tb, lines.Err())
	return values
}
