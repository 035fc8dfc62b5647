package ingest

import (
	"context"
	"fmt"
	"time"

	"marketdata/shared/postgres"
)

// An array, as in claimQuery.
const dropQuery = `
	update raw_responses
	set body = null
	where id = any (array(
		select id
		from raw_responses
		where body is not null and received_at < now() - $1::interval
		order by received_at
		limit $2
		for update skip locked))`

// DropBodies deletes the bodies of up to limit raw responses that are older than age, oldest first, and returns how many. The rows
// stay, and so do the prices read from them. Concurrent calls share the work (SKIP LOCKED).
func (in *Ingester) DropBodies(ctx context.Context, age time.Duration, limit int) (int64, error) {
	tag, err := in.pool.Exec(ctx, dropQuery, age, limit)
	if err != nil {
		return 0, postgres.Classify(fmt.Errorf("drop raw bodies: %w", err))
	}
	return tag.RowsAffected(), nil
}
