package main

import (
	"context"
	"errors"
	"net/http"
	"time"

	vm "github.com/VictoriaMetrics/metrics"
	"golang.org/x/sync/errgroup"

	"marketdata/functions/dlq-inspector/internal/intake"
	"marketdata/functions/dlq-inspector/internal/letter"
	"marketdata/functions/dlq-inspector/internal/replay"
	"marketdata/shared/fault"
	"marketdata/shared/ingress"
	"marketdata/shared/metric"
)

// tickAdvance is how long a tick stays while there is work.
const tickAdvance = 15 * time.Second

// receiver receives dead letters and ticks (POST /).
type receiver struct {
	intake    *intake.Intake
	upkeep    upkeep
	retention time.Duration // of settled letters
	bulks     *replay.Runner
	received  *vm.Counter // deliveries of dead letters that were stored
}

var help = []metric.Help{{Name: "marketdata_dead_letters_received_total", Text: "Records of the dead letter topic received."}}

// upkeep is the work of a tick on the tables.
type upkeep interface {
	RecoverReplays(ctx context.Context) error
	ForgetKeys(ctx context.Context) error
	ForgetVerdicts(ctx context.Context) error
	FoldCounts(ctx context.Context) error
	IndexTexts(ctx context.Context) error
	RemoveSettled(ctx context.Context, after time.Duration) error
}

func (r *receiver) routes(mux *http.ServeMux) {
	turns := ingress.Turns()
	take := ingress.InTurn(turns, r.take)
	unreadable := func(ctx context.Context, d ingress.Delivery, _ error) error { return take(ctx, d) } // it is a letter, too
	mux.Handle("POST /{$}", r.intake.Admit(ingress.Handler{MaxBytes: letter.MaxRequestBytes, Handle: ingress.InTurn(turns, r.event), Refuse: unreadable}))
}

// event handles one delivery. Its errors are all Unavailable: with any answer but 204 and 503, the platform would send the letter to the
// dead letter topic again, for ever.
func (r *receiver) event(ctx context.Context, d ingress.Delivery) error {
	if d.IsTick() {
		return r.tick(ctx)
	}
	return r.take(ctx, d)
}

// tick indexes beside all else: neither waits for the other. Removals come last: nobody waits for them.
func (r *receiver) tick(ctx context.Context) error {
	var index errgroup.Group
	index.Go(func() error { return r.upkeep.IndexTexts(ctx) })
	return errors.Join(
		r.upkeep.RecoverReplays(ctx), r.upkeep.ForgetKeys(ctx), r.upkeep.ForgetVerdicts(ctx), r.upkeep.FoldCounts(ctx),
		r.bulks.Advance(ctx, tickAdvance), r.upkeep.RemoveSettled(ctx, r.retention), index.Wait())
}

func (r *receiver) take(ctx context.Context, d ingress.Delivery) error {
	if err := r.intake.Receive(ctx, d); err != nil {
		return fault.Wrap(err, fault.Unavailable, fault.CodeOf(err), "the letter could not be stored").After(time.Second)
	}
	r.received.Inc()
	return nil
}
