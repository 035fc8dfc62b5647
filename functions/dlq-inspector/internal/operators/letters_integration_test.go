//go:build integration

package operators

import (
	"context"
	"io"
	"log/slog"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"marketdata/functions/dlq-inspector/internal/letter"
	"marketdata/functions/dlq-inspector/internal/lettertest"
	"marketdata/functions/dlq-inspector/internal/store"
	"marketdata/shared/deadletter"
	"marketdata/shared/testenv"
)

// A letter that cannot be read back after its change is no reason to answer that the change was not made.
func TestReadBackThatFailsIsNoFailureOfTheChange(t *testing.T) {
	t.Parallel()
	pool := testenv.Postgres(t)
	lettertest.Fill(t, pool, "price-events", "A", 1)
	var id uuid.UUID
	require.NoError(t, pool.QueryRow(t.Context(), "select id from dead_letters").Scan(&id))
	api := New(Config{Store: unreadable{store.New(pool)}, Log: slog.New(slog.DiscardHandler)})
	answer, err := api.discard(t.Context(), &reasonRequest{ID: id})
	require.NoError(t, err)
	require.Equal(t, "discarded", answer.Body.Status)
	require.Equal(t, 1, lettertest.Count(t, pool, "select count(*) from dead_letters where status = 'discarded'"))
}

type unreadable struct{ *store.Store }

func (unreadable) Letter(context.Context, uuid.UUID) (letter.Stored, []deadletter.Failure, []letter.AuditEntry, error) {
	return letter.Stored{}, nil, nil, io.ErrUnexpectedEOF
}
