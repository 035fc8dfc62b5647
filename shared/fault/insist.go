package fault

import (
	"context"
	"time"
)

// How often [Insist] calls, and for how long altogether.
const (
	insistTries   = 6
	insistTimeout = 8 * time.Second
)

// Insist calls f again, with back-off, while its error is Unavailable: for changes that are worth a wait of some seconds.
// An attempt may have been committed although its answer was lost, so f must be idempotent. The context of f ends after 8 s, or with
// ctx. The last error is returned.
func Insist(ctx context.Context, f func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, insistTimeout)
	defer cancel()
	for try := 0; ; try++ {
		err := f(ctx)
		if KindOf(err) != Unavailable || try == insistTries-1 {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(100 * time.Millisecond << try):
		}
	}
}
