package ratelimit_test

import (
	"context"
	"fmt"
	"time"

	"marketdata/shared/ratelimit"
)

// A limit admits N requests in any window, wherever the window begins.
func ExampleLimit() {
	limit, err := ratelimit.ParseLimit("2/1m")
	fmt.Println(limit, err)

	now := time.Date(2024, 3, 20, 10, 30, 0, 0, time.UTC)
	store := ratelimit.NewMemory(func() time.Time { return now })
	for _, second := range []int{0, 50, 59, 60, 61} {
		now = time.Date(2024, 3, 20, 10, 30, second, 0, time.UTC)
		d, _ := store.Take(context.Background(), "client", limit)
		fmt.Println(now.Format("15:04:05"), d.Allowed, "left:", d.Left[0], "reset in", d.Reset)
	}
	// Output:
	// 2/1m <nil>
	// 10:30:00 true left: 1 reset in 1m0s
	// 10:30:50 true left: 0 reset in 10s
	// 10:30:59 false left: 0 reset in 1s
	// 10:31:00 true left: 0 reset in 50s
	// 10:31:01 false left: 0 reset in 49s
}
