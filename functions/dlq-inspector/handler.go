package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	vm "github.com/VictoriaMetrics/metrics"
	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"marketdata/shared/api"
	"marketdata/shared/fault"
	"marketdata/shared/ingress"
	"marketdata/shared/priceevent"
	"marketdata/shared/service"
	"marketdata/shared/timerange"
)

// maxBody is what both surfaces take: more than any letter of a topic whose records end at 2 MiB, base64 and all.
const maxBody = 4 << 20

type operatorStore interface {
	transitioner
	letter(ctx context.Context, id uuid.UUID) (stored, []failure, []auditEntry, error)
	letters(ctx context.Context, f filter, before *listKey, limit int) ([]listed, error)
	groups(ctx context.Context, after *groupKey, limit int) ([]group, error)
	stats(ctx context.Context) (map[string]int64, error)
	recoverReplays(ctx context.Context) error
	createBulk(ctx context.Context, b bulk, key string, fingerprint []byte) (bulk, error)
	forgetKeys(ctx context.Context) error
	bulk(ctx context.Context, id uuid.UUID) (bulk, error)
	bulks(ctx context.Context, before *uuid.UUID, limit int) ([]bulk, error)
	cancelBulk(ctx context.Context, id uuid.UUID, who string) (bulk, error)
}

type handler struct {
	store   operatorStore
	intake  *intake
	replay  *replayer
	bulks   *bulkRunner
	access  access
	metrics metrics
}

func (h *handler) routes(mux *http.ServeMux, routes *api.API, limit service.Middleware) {
	mux.Handle("POST /{$}", h.intake.admit(ingress.Handler{MaxBytes: maxBody, Handle: h.event, Refuse: h.unreadable}))
	pages(mux)
	routes.Document(func(doc *huma.OpenAPI) {
		doc.Components.SecuritySchemes = map[string]*huma.SecurityScheme{"operator": {Type: "http", Scheme: "bearer"}}
	})
	op := func(id, method, path, summary string, errs ...int) huma.Operation {
		return huma.Operation{
			OperationID: id, Method: method, Path: path, Summary: summary, Tags: []string{"dead letters"}, MaxBodyBytes: maxBody,
			Errors:   append([]int{400, 401, 500, 503}, errs...),
			Security: []map[string][]string{{"operator": {}}},
		}
	}
	api.Handle(routes, op("list-letters", http.MethodGet, "/dlq/messages", "List dead letters, newest failure first"), h.list, limit, h.access.guard)
	api.Handle(routes, op("show-letter", http.MethodGet, "/dlq/messages/{id}", "Show a dead letter", 404), h.show, limit, h.access.guard)
	api.Handle(routes, op("group-letters", http.MethodGet, "/dlq/groups", "Dead letters by cause"), h.groups, limit, h.access.guard)
	api.Handle(routes, op("count-letters", http.MethodGet, "/dlq/stats", "Dead letters by status"), h.stats, limit, h.access.guard)
	api.Handle(routes, op("replay-letter", http.MethodPost, "/dlq/messages/{id}/replay", "Deliver the event again to the function that refused it", 404, 409, 413), h.replayOne, limit, h.access.guard)
	api.Handle(routes, accepted(op("replay-letters", http.MethodPost, "/dlq/replays", "Replay all open letters that a filter selects", 409, 413)), h.replayMany, limit, h.access.guard)
	api.Handle(routes, op("list-replays", http.MethodGet, "/dlq/replays", "List replays of many letters, newest first"), h.listReplays, limit, h.access.guard)
	api.Handle(routes, op("show-replay", http.MethodGet, "/dlq/replays/{id}", "Show a replay of many letters and its progress", 404), h.showReplay, limit, h.access.guard)
	api.Handle(routes, op("cancel-replay", http.MethodDelete, "/dlq/replays/{id}", "Cancel a replay of many letters", 404, 409), h.cancelReplay, limit, h.access.guard)
	api.Handle(routes, op("discard-letter", http.MethodPost, "/dlq/messages/{id}/discard", "Set a dead letter aside", 404, 409), h.discard, limit, h.access.guard)
	api.Handle(routes, op("restore-letter", http.MethodPost, "/dlq/messages/{id}/restore", "Open a discarded dead letter again", 404, 409), h.restore, limit, h.access.guard)
}

// event takes dead letters and ticks. Its errors are Unavailable only: any other answer than 204 and 503 would send
// the letter round for ever.
func (h *handler) event(ctx context.Context, d ingress.Delivery) error {
	if d.IsTick() {
		return errors.Join(h.store.recoverReplays(ctx), h.store.forgetKeys(ctx), h.bulks.advance(ctx, tickAdvance))
	}
	return h.take(ctx, d)
}

func (h *handler) unreadable(ctx context.Context, d ingress.Delivery, _ error) error {
	return h.take(ctx, d)
}

func (h *handler) take(ctx context.Context, d ingress.Delivery) error {
	if err := h.intake.receive(ctx, d); err != nil {
		return fault.Wrap(err, fault.Unavailable, fault.CodeOf(err), "the letter could not be stored").After(time.Second)
	}
	h.metrics.received.Inc()
	return nil
}

type listRequest struct {
	Status      string `query:"status" enum:"open,replaying,resolved,sent,discarded"`
	Fingerprint string `query:"fingerprint" maxLength:"64"`
	Symbol      string `query:"symbol" maxLength:"32"`
	Topic       string `query:"topic" maxLength:"249"`
	Q           string `query:"q" maxLength:"200" doc:"Text in code, reason, symbol, source or id"`
	Since       string `query:"since" format:"date-time" doc:"Last failure at or after"`
	Until       string `query:"until" format:"date-time" doc:"Last failure before"`
	Limit       int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	PageToken   string `query:"page_token" maxLength:"200"`
}

type listAnswer struct {
	Body struct {
		Messages      []Summary `json:"messages"`
		NextPageToken *string   `json:"next_page_token" nullable:"true" doc:"null at the end"`
	}
}

// instant reads a bound of time; empty text is none.
func instant(name, text string) (*time.Time, error) {
	if text == "" {
		return nil, nil //nolint:nilnil // no bound is a bound
	}
	at, err := timerange.ParseRFC3339(text)
	if err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "invalid_parameter", "%s is not an RFC 3339 date-time", name)
	}
	return &at, nil
}

func (h *handler) list(ctx context.Context, in *listRequest) (*listAnswer, error) {
	f := filter{Status: in.Status, Fingerprint: clean(in.Fingerprint), Symbol: clean(in.Symbol), Topic: clean(in.Topic), Q: clean(in.Q)}
	var err error
	if f.Since, err = instant("since", in.Since); err != nil {
		return nil, err
	}
	if f.Until, err = instant("until", in.Until); err != nil {
		return nil, err
	}
	before, err := api.ReadToken[listKey](in.PageToken)
	if err != nil {
		return nil, err
	}
	all, err := h.store.letters(ctx, f, before, in.Limit+1)
	if err != nil {
		return nil, err
	}
	out := &listAnswer{}
	out.Body.Messages = []Summary{}
	all, out.Body.NextPageToken = api.Page(all, in.Limit, func(l listed) listKey { return l.key })
	for _, l := range all {
		out.Body.Messages = append(out.Body.Messages, summaryOf(l.stored))
	}
	return out, nil
}

type letterRequest struct {
	ID uuid.UUID `path:"id" format:"uuid"`
}

type letterAnswer struct{ Body letterBody }

func (h *handler) show(ctx context.Context, in *letterRequest) (*letterAnswer, error) {
	l, failures, trail, err := h.store.letter(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return &letterAnswer{bodyOf(l, failures, trail)}, nil
}

type groupsAnswer struct {
	Body struct {
		Groups        []group `json:"groups"`
		NextPageToken *string `json:"next_page_token" nullable:"true"`
	}
}

type groupsRequest struct {
	Limit     int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	PageToken string `query:"page_token" maxLength:"400" doc:"next_page_token of the page before"`
}

func (h *handler) groups(ctx context.Context, in *groupsRequest) (*groupsAnswer, error) {
	after, err := api.ReadToken[groupKey](in.PageToken)
	if err != nil {
		return nil, err
	}
	if after != nil {
		after.Fingerprint = clean(after.Fingerprint)
	}
	all, err := h.store.groups(ctx, after, in.Limit+1)
	if err != nil {
		return nil, err
	}
	out := &groupsAnswer{}
	all, out.Body.NextPageToken = api.Page(all, in.Limit, func(g group) groupKey { return groupKey{g.Open, g.Letters, g.Fingerprint} })
	out.Body.Groups = []group{}
	for _, g := range all {
		if r, ok := priceevent.Explain(g.Code); ok {
			g.Meaning, g.Remedy = r.Meaning, r.Remedy
		}
		out.Body.Groups = append(out.Body.Groups, g)
	}
	return out, nil
}

type statsAnswer struct {
	Body struct {
		Statuses map[string]int64 `json:"statuses" doc:"Letters by status"`
	}
}

func (h *handler) stats(ctx context.Context, _ *struct{}) (*statsAnswer, error) {
	counts, err := h.store.stats(ctx)
	if err != nil {
		return nil, err
	}
	out := &statsAnswer{}
	out.Body.Statuses = counts
	return out, nil
}

type replayRequest struct {
	ID   uuid.UUID `path:"id" format:"uuid"`
	Body *struct {
		Value         *string `json:"value,omitempty" doc:"Replaces the event's value; checked against the event's schema first"`
		ValueEncoding string  `json:"value_encoding,omitempty" enum:"text,base64"`
		Reason        string  `json:"reason,omitempty" maxLength:"1000" doc:"For the audit trail"`
		Force         bool    `json:"force,omitempty" doc:"Replay although MAX_REPLAYS is reached"`
		Target        string  `json:"target,omitempty" enum:"function,topic" doc:"function (the default): the one that refused it; topic: an exact copy to the original topic, for other consumers"`
	}
}

func (h *handler) replayOne(ctx context.Context, in *replayRequest) (*letterAnswer, error) {
	o := order{who: who(ctx)}
	if in.Body != nil {
		o.reason, o.force, o.target = in.Body.Reason, in.Body.Force, in.Body.Target
		if in.Body.Value != nil {
			value, err := decode(*in.Body.Value, in.Body.ValueEncoding)
			if err != nil {
				return nil, fault.Wrap(err, fault.Invalid, "invalid_parameter", "value is not %s", in.Body.ValueEncoding)
			}
			o.value, o.edited = value, true
		}
	}
	l, err := h.replay.run(ctx, in.ID, o)
	if err != nil {
		h.metrics.replays("error").Inc()
		return nil, err
	}
	h.metrics.replays(l.Status).Inc()
	return h.changed(ctx, l), nil
}

// changed shows a letter after a change that was made. If it cannot be read back, the answer is what is known of it: an error would
// say that the change was not made.
func (h *handler) changed(ctx context.Context, l stored) *letterAnswer {
	answer, err := h.show(ctx, &letterRequest{l.ID})
	if err != nil {
		h.bulks.log.WarnContext(ctx, "letter not read back after its change", "letter_id", l.ID, "err", err)
		return &letterAnswer{bodyOf(l, nil, nil)}
	}
	return answer
}

type reasonRequest struct {
	ID   uuid.UUID `path:"id" format:"uuid"`
	Body *struct {
		Reason string `json:"reason,omitempty" maxLength:"1000" doc:"For the audit trail"`
	}
}

func (h *handler) discard(ctx context.Context, in *reasonRequest) (*letterAnswer, error) {
	return h.move(ctx, in, "discard", state.discard)
}

func (h *handler) restore(ctx context.Context, in *reasonRequest) (*letterAnswer, error) {
	return h.move(ctx, in, "restore", state.restore)
}

func (h *handler) move(ctx context.Context, in *reasonRequest, action string, step func(state) (state, error)) (*letterAnswer, error) {
	reason := ""
	if in.Body != nil {
		reason = in.Body.Reason
	}
	l, err := h.store.transition(ctx, in.ID, change{
		who: who(ctx), action: action, reason: reason, apply: func(l stored) (state, error) { return step(l.state) },
	})
	if err != nil {
		return nil, err
	}
	return h.changed(ctx, l), nil
}

func who(ctx context.Context) string {
	name, _ := ctx.Value(operatorKey{}).(string)
	return name
}

type metrics struct {
	received *vm.Counter // deliveries of dead letters stored
	set      *vm.Set
}

func newMetrics(set *vm.Set) metrics {
	return metrics{set.NewCounter("dead_letters_received_total"), set}
}

// replays counts them by the letter's status after, or "error".
func (m metrics) replays(status string) *vm.Counter {
	return m.set.GetOrCreateCounter(fmt.Sprintf("dead_letter_replays_total{status=%q}", status))
}
