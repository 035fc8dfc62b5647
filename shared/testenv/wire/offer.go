package wire

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Offered has the answers to requests that were offered at a rate.
type Offered struct {
	Rate     float64 // of requests that were answered, per second
	Admitted int     // answers with a status below 300
	Hits     int     // those of them that came from a cache
	P50, P99 time.Duration
	Refused  int            // answers 429 and 503 that say when to come back
	Other    map[string]int // all else, by what it was
}

// Offer sends requests over conns connections, at most rate of them a second altogether, for the time d. A client that waits for its
// answer sends nothing in the meantime, and one that is refused does not wait. next is that of [Load].
func Offer(ctx context.Context, target string, conns int, rate float64, d time.Duration, next func(i int) []byte) (Offered, error) {
	var (
		counter atomic.Int64
		mu      sync.Mutex
		o       = Offered{Other: map[string]int{}}
		took    []time.Duration
		wg      sync.WaitGroup
	)
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	pace := time.Duration(float64(conns) / rate * float64(time.Second))
	began := time.Now()
	for n := range conns {
		conn, err := New(target)
		if err != nil {
			return o, err
		}
		wg.Go(func() {
			defer conn.Close()
			due := time.NewTimer(time.Duration(n) * pace / time.Duration(conns)) // evenly spread
			defer due.Stop()
			for {
				select {
				case <-due.C:
				case <-ctx.Done():
					return
				}
				start := time.Now()
				answer, err := conn.send(next(int(counter.Add(1) - 1)))
				elapsed := time.Since(start)
				mu.Lock()
				switch {
				case err != nil:
					o.Other[cause(err)]++
				case answer.status < 300:
					o.Admitted++
					if answer.cache == "HIT" {
						o.Hits++
					}
					took = append(took, elapsed)
				case (answer.status == 429 || answer.status == 503) && answer.retryAfter != "":
					o.Refused++
				default:
					o.Other[fmt.Sprint("status ", answer.status)]++
				}
				mu.Unlock()
				due.Reset(pace - elapsed)
			}
		})
	}
	wg.Wait()
	o.Rate = float64(counter.Load()) / time.Since(began).Seconds()
	if len(took) > 0 {
		slices.Sort(took)
		o.P50, o.P99 = took[len(took)/2], took[len(took)*99/100]
	}
	return o, nil
}

// cause is the text of an error without the addresses of its connection.
func cause(err error) string {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err.Error()
	}
	return err.Error()
}
