package wire

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Result has the figures of a load.
type Result struct {
	Rate     float64 // responses per second
	P50, P99 time.Duration
	Requests int
}

// Load keeps inFlight requests in flight for the time d or until next returns nil, and returns rate and latency of the responses.
// next returns request i, counted from 0, and is called concurrently. check may be nil. An error of check or of a connection ends
// the load.
func Load(ctx context.Context, target string, inFlight int, d time.Duration, next func(i int) []byte, check func(status int, cache string) error) (Result, error) {
	var (
		counter atomic.Int64
		mu      sync.Mutex
		all     []time.Duration
		failed  error
		wg      sync.WaitGroup
	)
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	began := time.Now()
	for range inFlight {
		conn, err := New(target)
		if err != nil {
			return Result{}, err
		}
		wg.Go(func() {
			defer conn.Close()
			took, err := drive(ctx, conn, &counter, next, check)
			mu.Lock()
			defer mu.Unlock()
			all = append(all, took...)
			if err != nil && failed == nil {
				failed = err
				cancel()
			}
		})
	}
	wg.Wait()
	elapsed := time.Since(began)
	switch {
	case failed != nil:
		return Result{}, failed
	case len(all) == 0:
		return Result{}, fmt.Errorf("no request got a response")
	}
	slices.Sort(all)
	return Result{
		Rate: float64(len(all)) / elapsed.Seconds(), P50: all[len(all)/2], P99: all[len(all)*99/100], Requests: len(all),
	}, nil
}

// drive sends requests over one connection, one after the other.
func drive(ctx context.Context, c *Conn, counter *atomic.Int64, next func(int) []byte, check func(int, string) error) ([]time.Duration, error) {
	var took []time.Duration
	for ctx.Err() == nil {
		request := next(int(counter.Add(1) - 1))
		if request == nil {
			break
		}
		start := time.Now()
		status, cache, err := c.Do(request)
		if err != nil {
			return took, err
		}
		took = append(took, time.Since(start))
		if check != nil {
			if err := check(status, cache); err != nil {
				return took, err
			}
		}
	}
	return took, nil
}

// Expect returns a check for one status.
func Expect(status int) func(int, string) error {
	return func(got int, _ string) error {
		if got != status {
			return fmt.Errorf("status %d, not %d", got, status)
		}
		return nil
	}
}
