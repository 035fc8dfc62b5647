// Package operators is the HTTP API of the people who handle dead letters: list, show, replay, discard and restore letters, and replay
// many of them. Handlers decode a request, call the store or the replayer, and encode the answer. All routes need a token, and those that
// change something one of an operator (access.go).
package operators

import (
	"context"
	"log/slog"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"marketdata/functions/dlq-inspector/internal/letter"
	"marketdata/functions/dlq-inspector/internal/replay"
	"marketdata/shared/api"
	"marketdata/shared/deadletter"
	"marketdata/shared/service"
)

// Store reads and changes letters and bulk replays. Its errors are faults. [store.Store] is one.
type Store interface {
	replay.LetterStore
	Letter(ctx context.Context, id uuid.UUID) (letter.Stored, []deadletter.Failure, []letter.AuditEntry, error)
	List(ctx context.Context, f letter.Filter, after *letter.ListKey, limit int) (letter.ListPage, error)
	Groups(ctx context.Context, after *letter.GroupKey, limit int) ([]letter.Group, error)
	Stats(ctx context.Context) (map[letter.Status]int64, error)
	CreateBulk(ctx context.Context, b replay.Bulk, key string, fingerprint []byte) (replay.Bulk, error)
	Bulk(ctx context.Context, id uuid.UUID) (replay.Bulk, error)
	Samples(ctx context.Context, id uuid.UUID) ([]replay.Sample, error)
	Verdicts(ctx context.Context, id uuid.UUID, like letter.Verdict, after *uuid.UUID, limit int) ([]replay.LetterVerdict, error)
	Bulks(ctx context.Context, before *uuid.UUID, limit int) ([]replay.Bulk, error)
	CancelBulk(ctx context.Context, id uuid.UUID, who string) (replay.Bulk, error)
}

// Config is what the API needs.
type Config struct {
	Store    Store
	Replayer *replay.Replayer
	Bulks    *replay.Runner
	Access   Access
	Metrics  replay.Metrics
	Log      *slog.Logger
}

// API answers operators. Safe for concurrent use.
type API struct{ Config }

// New returns an API.
func New(c Config) *API { return &API{c} }

// Routes mounts the API behind limit and the check of tokens. The limit comes first: it also counts guesses.
func (a *API) Routes(routes *api.API, limit service.Middleware) {
	routes.Document(func(doc *huma.OpenAPI) {
		doc.Components.SecuritySchemes = map[string]*huma.SecurityScheme{"operator": {
			Type: "http", Scheme: "bearer", Description: "An operator's token: DLQ_TOKEN, or one of DLQ_TOKENS, of which some may only read",
		}}
	})
	op := func(id, method, path, summary string) huma.Operation {
		return huma.Operation{
			OperationID: id, Method: method, Path: path, Summary: summary, Tags: []string{api.TagDeadLetters}, MaxBodyBytes: letter.MaxRequestBytes,
			Security: []map[string][]string{{"operator": {}}},
		}
	}
	accepted := func(op huma.Operation) huma.Operation {
		op.DefaultStatus = http.StatusAccepted
		return op
	}
	guard := a.Access.guard
	api.Handle(routes, op("show-me", http.MethodGet, "/dlq/me", "Show whose token it is, and what it may do"), a.me, limit, guard)
	api.Handle(routes, op("list-letters", http.MethodGet, "/dlq/messages", "List dead letters, newest failure first"), a.list, limit, guard)
	api.Handle(routes, op("show-letter", http.MethodGet, "/dlq/messages/{id}", "Show a dead letter"), a.show, limit, guard)
	api.Handle(routes, op("group-letters", http.MethodGet, "/dlq/groups", "Dead letters by cause"), a.groups, limit, guard)
	api.Handle(routes, op("count-letters", http.MethodGet, "/dlq/stats", "Dead letters by status"), a.stats, limit, guard)
	api.Handle(routes, op("replay-letter", http.MethodPost, "/dlq/messages/{id}/replay", "Deliver the event again to the function that refused it"), a.replay, limit, guard)
	api.Handle(routes, accepted(op("replay-letters", http.MethodPost, "/dlq/replays", "Replay letters by their ids, or all open letters that a filter selects")), a.createReplay, limit, guard)
	api.Handle(routes, accepted(op("discard-letters", http.MethodPost, "/dlq/discards", "Set letters aside by their ids, or all open letters that a filter selects")), a.createDiscard, limit, guard)
	api.Handle(routes, op("list-replays", http.MethodGet, "/dlq/replays", "List replays and discards of many letters, newest first"), a.listReplays, limit, guard)
	api.Handle(routes, op("show-replay", http.MethodGet, "/dlq/replays/{id}", "Show a replay or discard of many letters and its progress"), a.showReplay, limit, guard)
	api.Handle(routes, op("list-verdicts", http.MethodGet, "/dlq/replays/{id}/verdicts", "List the verdict of a plan on each letter, or why a replay or discard skipped letters"), a.listVerdicts, limit, guard)
	api.Handle(routes, op("cancel-replay", http.MethodDelete, "/dlq/replays/{id}", "Cancel a replay or discard of many letters"), a.cancelReplay, limit, guard)
	api.Handle(routes, op("discard-letter", http.MethodPost, "/dlq/messages/{id}/discard", "Set a dead letter aside"), a.discard, limit, guard)
	api.Handle(routes, op("restore-letter", http.MethodPost, "/dlq/messages/{id}/restore", "Open a discarded dead letter again"), a.restore, limit, guard)
	explain(routes)
}
