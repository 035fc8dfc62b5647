package coalesce_test

import (
	"context"
	"fmt"
	"time"

	"marketdata/shared/coalesce"
)

// Callers that wait at the same time share one commit; each gets its own result.
func Example() {
	commit := func(_ context.Context, items []string) ([]int, error) {
		lengths := make([]int, len(items)) // stands for one transaction for all items
		for i, item := range items {
			lengths[i] = len(item)
		}
		return lengths, nil
	}
	c := coalesce.New(commit, coalesce.Options{MaxBatch: 200, MaxQueue: 2000, Timeout: 10 * time.Second})
	defer c.Close()
	n, err := c.Do(context.Background(), "price")
	fmt.Println(n, err)
	// Output: 5 <nil>
}
