package redisclient

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"

	"marketdata/shared/coalesce"
	"marketdata/shared/trace"
)

// Batcher sends the commands of concurrent callers as one pipeline: under load, most of the cost of a command, here and in Redis,
// is a system call each way. A lone caller's commands are sent at once. Safe for concurrent use.
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
	batchQueue   = 100_000 // more requests than a function ever has in flight
	// batchOverlap is the time after which a pipeline is late, many times what one takes: a lost packet, or a connection that is being
	// opened, must not delay all callers.
	batchOverlap = 5 * time.Millisecond
)

// NewBatcher returns a Batcher for client. timeout bounds one pipeline. Close it after use.
func NewBatcher(client *redis.Client, timeout time.Duration) *Batcher {
	b := &Batcher{client: client}
	b.coalescer = coalesce.New(b.send, coalesce.Options{
		MaxBatch: batchCallers, MaxQueue: batchQueue, Timeout: timeout, Overlap: batchOverlap,
	})
	return b
}

// Do runs the commands that queue puts on a pipeline, in order, between those of other callers. Afterwards each of them has its
// reply or an error, and none was sent twice. If ctx ends while they still wait, they are not sent; Do waits for commands in
// flight. queue may be called by another goroutine, and returns before Do does. It is called again if the commands of the first
// call were not sent.
func (b *Batcher) Do(ctx context.Context, queue func(redis.Pipeliner)) {
	// The pipeline of all callers is one span in the trace of each.
	ctx, span := trace.Start(ctx, trace.Client, "PIPELINE", "")
	span.Text("db.system.name", "redis")
	span.Text("db.operation.name", "PIPELINE")
	_, err := b.coalescer.Do(context.WithoutCancel(ctx), batched{ctx, queue})
	span.End(err)
	if err != nil {
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

// Close sends waiting commands. Later ones fail.
func (b *Batcher) Close() { b.coalescer.Close() }

// Fail sets err on the commands that queue puts on a pipeline, and sends none of them.
func Fail(client *redis.Client, queue func(redis.Pipeliner), err error) {
	p := client.Pipeline()
	queue(p)
	for _, c := range p.Cmds() {
		c.SetErr(err)
	}
}
