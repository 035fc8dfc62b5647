package intake_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/functions/dlq-inspector/internal/intake"
	"marketdata/functions/dlq-inspector/internal/store"
)

// A sender that hesitates must not keep others out, whether it has said how much is to come or not. Behind of-watchdog none has.
func TestRoomForBodiesOfUnknownLength(t *testing.T) {
	t.Parallel()
	const short, long = 32 << 10, 3 << 20
	for name, c := range map[string]struct {
		sent   int // bytes that arrive at once; the rest of the body does not
		length int64
		want   int // status of another, which is short
	}{
		"short so far, unknown length": {1, -1, http.StatusNoContent},
		"short, known length":          {1, short, http.StatusNoContent},
		"long, unknown length":         {long, -1, http.StatusServiceUnavailable},
		"long, known length":           {long, long + 1, http.StatusNoContent},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				in := intake.New(intake.Config{Store: store.New(nil)}) // nothing is stored
				defer in.Close()
				var bodies []int
				h := in.Admit(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					body, _ := io.ReadAll(r.Body)
					bodies = append(bodies, len(body))
					w.WriteHeader(http.StatusNoContent)
				}))
				send := func(body io.Reader, length int64) int {
					r := httptest.NewRequest(http.MethodPost, "/", body)
					r.ContentLength = length
					w := httptest.NewRecorder()
					h.ServeHTTP(w, r)
					return w.Code
				}
				rest, end := io.Pipe()
				first := make(chan int)
				go func() { first <- send(io.MultiReader(strings.NewReader(strings.Repeat("x", c.sent)), rest), c.length) }()
				synctest.Wait()
				began := time.Now()
				for range 20 {
					require.Equal(t, c.want, send(strings.NewReader("a letter"), -1))
					if c.want != http.StatusNoContent {
						break
					}
				}
				if c.want == http.StatusNoContent {
					require.Zero(t, time.Since(began))
				}
				require.NoError(t, end.Close())
				require.Equal(t, http.StatusNoContent, <-first)
				require.Equal(t, c.sent, bodies[len(bodies)-1], "nothing of a body is lost")
			})
		})
	}
}
