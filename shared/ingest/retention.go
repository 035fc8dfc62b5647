package ingest

import (
	"context"
	"fmt"
	"time"

	"marketdata/shared/postgres"
)

// DropBodies forgets the bodies of up to limit raw responses that were received longer ago than age, oldest first, and
// returns how many: their rows, and all that was made of them, stay. Several at once share the work (SKIP LOCKED).
func (in *Ingester) DropBodies(ctx context.Context, age time.Duration, limit int) (int64, error) {
	const q = `
		update raw_responses
		set body = null
		where id in (
			select id
			from raw_responses
			where body is not null and received_at < now() - $1::interval
			order by received_at
			limit $2
			for update skip locked)`
	tag, err := in.pool.Exec(ctx, q, age, limit)
	if err != nil {
		return 0, postgres.Classify(fmt.Errorf("drop raw bodies: %w", err))
	}
	return tag.RowsAffected(), nil
}
