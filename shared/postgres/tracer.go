package postgres

import (
	"context"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"marketdata/shared/trace"
)

// tracer makes a span of each statement and of each batch. A statement's text is an attribute: all values are parameters, which are not.
type tracer struct{}

var (
	_ pgx.QueryTracer = tracer{}
	_ pgx.BatchTracer = tracer{}
)

// TraceQueryStart begins the span of a statement.
func (tracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	ctx, span := trace.Start(ctx, trace.Client, "query", "")
	if span.Recorded() {
		statement := strings.Join(strings.Fields(data.SQL), " ")
		verb, _, _ := strings.Cut(statement, " ")
		span.Name(verb)
		span.Text("db.system.name", "postgresql")
		span.Text("db.operation.name", verb)
		span.Text("db.query.text", statement)
	}
	return ctx
}

// TraceQueryEnd ends the span of a statement.
func (tracer) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryEndData) {
	end(ctx, data.Err)
}

// TraceBatchStart begins the span of a batch.
func (tracer) TraceBatchStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceBatchStartData) context.Context {
	ctx, span := trace.Start(ctx, trace.Client, "BATCH", "")
	span.Text("db.system.name", "postgresql")
	span.Text("db.operation.name", "BATCH")
	span.Int("db.operation.batch.size", data.Batch.Len())
	return ctx
}

// TraceBatchQuery does nothing: the statements of a batch have one span.
func (tracer) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}

// TraceBatchEnd ends the span of a batch.
func (tracer) TraceBatchEnd(ctx context.Context, _ *pgx.Conn, data pgx.TraceBatchEndData) {
	end(ctx, data.Err)
}

// end ends the span of ctx, which is the one that began there: where none is recorded, none began.
func end(ctx context.Context, err error) {
	span := trace.Current(ctx)
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		span.Text("db.response.status_code", pg.Code)
	}
	span.End(Classify(err))
}
