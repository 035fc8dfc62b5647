//go:build integration

package e2e

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Events that compute-ma has acknowledged survive a crash of its database at any time. Commits do not wait for the disk one by one;
// the flush behind them makes this safe.
func TestAcknowledgedEventsSurviveACrashOfPostgres(t *testing.T) {
	t.Parallel()
	s := startParts(t, newDir(t), "services,functions")
	target := s.env["COMPUTE_MA_URL"] + "/"
	for crash := range 3 {
		symbol := "CRASH" + strconv.Itoa(crash)
		var (
			wg           sync.WaitGroup
			mu           sync.Mutex
			acknowledged []string
		)
		end := make(chan struct{})
		at := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
		for worker := range 20 {
			wg.Go(func() {
				for i := 0; ; i++ {
					select {
					case <-end:
						return
					default:
					}
					when := at.Add(time.Duration(i*20+worker) * time.Second).Format(time.RFC3339)
					if postEvent(target, symbol, when) != http.StatusNoContent {
						continue
					}
					mu.Lock()
					acknowledged = append(acknowledged, when)
					mu.Unlock()
				}
			})
		}
		require.Eventually(t, func() bool { mu.Lock(); defer mu.Unlock(); return len(acknowledged) > 300 }, time.Minute, time.Millisecond)
		began := s.rows(t, "select pg_postmaster_start_time()::text")
		require.NoError(t, syscall.Kill(s.postmaster(t), syscall.SIGKILL))
		close(end)
		wg.Wait()
		s.eventually(t, []string{"t"}, "select concat(pg_postmaster_start_time() > $1::timestamptz)", began[0]) // a new server is running
		ready(t, s.env["COMPUTE_MA_URL"])
		stored := map[string]bool{}
		for _, line := range s.rows(t, `select to_char(observed_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') from price_points where symbol = $1`, symbol) {
			stored[line] = true
		}
		var lost []string
		for _, when := range acknowledged {
			if !stored[when] {
				lost = append(lost, when)
			}
		}
		require.Empty(t, lost, "crash %d: %d acknowledged, %d stored", crash, len(acknowledged), len(stored))
	}
}

// postEvent posts a price event and returns the status; 0: no response.
func postEvent(target, symbol, when string) int {
	body := fmt.Sprintf(`{"symbol":%q,"price":1.5,"timestamp":%q,"source":"test","raw_response_id":"0190f5d8-0000-7000-8000-000000000001"}`, symbol, when)
	req, err := http.NewRequest(http.MethodPost, target, strings.NewReader(body))
	if err != nil {
		return 0
	}
	req.Header = http.Header{
		"Ce-Specversion": {"1.0"}, "Ce-Id": {symbol + when}, "Ce-Source": {"/test"}, "Ce-Type": {"marketdata.price.observed.v1"}, "Content-Type": {"application/json"},
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0
	}
	_ = resp.Body.Close() // the body is not used
	return resp.StatusCode
}
