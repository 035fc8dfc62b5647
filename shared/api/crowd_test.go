package api_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/stretchr/testify/require"

	"marketdata/shared/api"
	"marketdata/shared/testenv/call"
)

// More requests than are worked on at a time wait half a second for their turn; then they are refused, with the time to come back. When the
// function is free again, so is every turn.
func TestRequestsBeyondACrowdWaitAndAreRefused(t *testing.T) {
	t.Parallel()
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s, _ := newFunction(t)
				free := make(chan struct{})
				var began atomic.Int64
				handle := func(context.Context, *struct{}) (*struct{}, error) { began.Add(1); <-free; return nil, nil } //nolint:nilnil // 204
				api.Handle(s.api, huma.Operation{OperationID: "work", Method: method, Path: "/work", DefaultStatus: http.StatusNoContent}, handle)
				statuses := make(chan int, 100)
				send := func(n int) {
					for range n {
						go func() {
							w := call.Do(s.Handler(), method, "/work", "")
							if w.Code == http.StatusServiceUnavailable {
								if w.Header().Get("Retry-After") != "1" || !strings.Contains(w.Body.String(), `"code":"overloaded"`) {
									t.Error(w.Header(), w.Body)
								}
							}
							statuses <- w.Code
						}()
					}
					synctest.Wait()
				}
				send(12)
				require.EqualValues(t, 8, began.Load())
				require.Empty(t, statuses, "four wait")
				time.Sleep(499 * time.Millisecond)
				send(1)
				require.Empty(t, statuses)
				time.Sleep(time.Millisecond)
				synctest.Wait()
				require.Len(t, statuses, 4)
				for range 4 {
					require.Equal(t, http.StatusServiceUnavailable, <-statuses)
				}
				close(free)
				synctest.Wait()
				for range 9 { // that which came later got its turn
					require.Equal(t, http.StatusNoContent, <-statuses)
				}
				send(8)
				require.Len(t, statuses, 8)
			})
		})
	}
}

// A turn ends when the answer begins, so clients that read slowly keep nobody out.
func TestATurnEndsWhenTheAnswerBegins(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newNumbers(t)
		slow := make(chan struct{})
		var slowly atomic.Int64
		n.written = func(reads int) {
			if reads == 1 { // the first rows are with the client
				slowly.Add(1)
				<-slow
			}
		}
		for range 100 {
			go call.Do(n.Handler(), http.MethodGet, "/numbers?format=csv", "")
		}
		synctest.Wait()
		require.EqualValues(t, 100, slowly.Load())
		close(slow)
	})
}

// A handler that panics, or whose client has gone away while it waited, leaves its turn to others.
func TestATurnEndsWithItsRequest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, _ := newFunction(t)
		handle := func(ctx context.Context, _ *struct{}) (*struct{}, error) {
			<-ctx.Done()
			panic("a bug")
		}
		api.Handle(s.api, huma.Operation{OperationID: "fail", Method: http.MethodGet, Path: "/fail"}, handle)
		for range 3 {
			ctx, cancel := context.WithCancel(t.Context())
			var codes [12]int
			for i := range codes {
				go func() {
					w := httptest.NewRecorder()
					s.Handler().ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodGet, "/fail", nil))
					codes[i] = w.Code
				}()
			}
			synctest.Wait()
			cancel()
			synctest.Wait()
			slices.Sort(codes[:])
			require.Equal(t, []int{500, 503, 503, 503, 503}, codes[7:], "eight had their turn")
			require.Equal(t, 500, codes[0])
		}
	})
}
