package redisclient

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"

	"marketdata/shared/coalesce"
)

// Batcher sends the commands of callers that come at the same time as one pipeline: under load most of what a command costs,
// here and in Redis, is a system call each way. A lone caller's commands are sent at once. Safe for concurrent use.
type Batcher struct {
	client    *redis.Client
	coalescer *coalesce.Coalescer[batched, struct{}]
}

type batched struct {
	ctx   context.Context //nolint:containedctx // of one caller among many
	queue func(redis.Pipeliner)
}

const (
	batchCallers = 200
	batchQueue   = 100_000 // more requests than a function ever has under way
	// batchOverlap is when a pipeline is late, many times what one takes: a packet that is lost, or a connection being opened, must
	// not hold up everybody.
	batchOverlap = 5 * time.Millisecond
)

// NewBatcher batches commands for client. timeout bounds one pipeline. Close it after use.
func NewBatcher(client *redis.Client, timeout time.Duration) *Batcher {
	b := &Batcher{client: client}
	b.coalescer = coalesce.New(b.send, coalesce.Options{
		MaxBatch: batchCallers, MaxQueue: batchQueue, Timeout: timeout, Overlap: batchOverlap,
	})
	return b
}

// Do runs the commands that queue puts on a pipeline, in their order but among those of other callers. Whatever happens, each
// of them has its answer or an error afterwards, and none was sent twice. What still waits when ctx ends is not sent; what is on
// its way is waited for. queue may be called by another goroutine, and returns before Do does; it may be called again if its
// first commands were not sent.
func (b *Batcher) Do(ctx context.Context, queue func(redis.Pipeliner)) {
	if _, err := b.coalescer.Do(context.WithoutCancel(ctx), batched{ctx, queue}); err != nil {
		Fail(b.client, queue, err)
	}
}

func (b *Batcher) send(ctx context.Context, all []batched) ([]struct{}, error) {
	p := b.client.Pipeline()
	for _, one := range all {
		if err := context.Cause(one.ctx); err != nil {
			Fail(b.client, one.queue, err)
			continue
		}
		one.queue(p)
	}
	_, _ = p.Exec(ctx) // each command keeps its own error
	return make([]struct{}, len(all)), nil
}

// Close sends what waits. Commands that come afterwards fail.
func (b *Batcher) Close() { b.coalescer.Close() }

// Fail gives the commands that queue would send an error, and sends none.
func Fail(client *redis.Client, queue func(redis.Pipeliner), err error) {
	p := client.Pipeline()
	queue(p)
	for _, c := range p.Cmds() {
		c.SetErr(err)
	}
}
