package fault_test

import (
	"errors"
	"fmt"
	"time"

	"marketdata/shared/fault"
)

// An error is wrapped once, where somebody knows what a caller can do about it; others add context and act on the kind.
func Example() {
	cause := errors.New("dial tcp 10.0.0.7:5432: connection refused")
	err := fmt.Errorf("store price: %w", fault.Wrap(cause, fault.Unavailable, "storage_unavailable", "the database does not answer").After(time.Second))

	f, _ := fault.As(err)
	fmt.Println(fault.KindOf(err), fault.CodeOf(err), "permanent:", fault.Permanent(err))
	fmt.Println("a caller reads:", f.Detail, "- retry after", f.RetryAfter)
	fmt.Println("the log has:", err)
	// Output:
	// unavailable storage_unavailable permanent: false
	// a caller reads: the database does not answer - retry after 1s
	// the log has: store price: storage_unavailable: the database does not answer: dial tcp 10.0.0.7:5432: connection refused
}
