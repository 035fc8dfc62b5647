//go:build integration

package e2e

import (
	"bufio"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

// A client of the gateway sees each change, from the first point of a series on, also while functions scale to zero: the stream keeps
// its replica, longer than a request may take to arrive, and once it has ended, the function sleeps.
func TestStreamThroughTheGateway(t *testing.T) {
	t.Parallel()
	for name, extra := range map[string][]string{"always on": {"COPIES=compute-ma=2"}, "scale to zero": {"SCALE_TO_ZERO=1s"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const duration = 36 * time.Second // more than the 30 s in which a request must arrive
			s := start(t, newDir(t), append(extra, "STREAM_DURATION="+duration.String())...)
			began := time.Now()
			resp, err := http.Get(s.env["GATEWAY_URL"] + "/averages/stream?symbols=STREAM,NONE&provider=e2e")
			require.NoError(t, err)
			defer resp.Body.Close() //nolint:errcheck // read to its end
			require.Equal(t, http.StatusOK, resp.StatusCode)
			require.Equal(t, "text/event-stream", resp.Header.Get("Content-Type"))
			require.Equal(t, "1199", resp.Header.Get("X-RateLimit-Remaining"), "it counts once")

			lines := bufio.NewScanner(resp.Body)
			next := func(prefix string) string {
				for lines.Scan() {
					if text, found := strings.CutPrefix(lines.Text(), prefix); found {
						return text
					}
				}
				return ""
			}
			require.Equal(t, "1000", next("retry: "))
			for i := range 5 {
				s.produce(t, event("STREAM", fmt.Sprint(i+1), time.Date(2024, 1, 1, 0, 0, i, 0, time.UTC).Format(time.RFC3339), "e2e", uuid.New()))
				require.Contains(t, next("data: "), fmt.Sprintf(`{"symbol":"STREAM","provider":"e2e","price":%d,`, i+1))
			}
			comments := 0
			for lines.Scan() {
				if strings.HasPrefix(lines.Text(), ":") {
					comments++
				}
			}
			require.NoError(t, lines.Err(), "the stream ends whole")
			require.Equal(t, 3, comments)
			require.GreaterOrEqual(t, time.Since(began), duration*9/10)
			if name == "scale to zero" {
				s.asleep(t, "compute-ma")
			}
		})
	}
}
