package store

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"marketdata/shared/coalesce"
)

// A batch is split if one of its events may be the cause, and only then: an outage would otherwise cost a commit for each event.
func TestErrorsThatSplitABatch(t *testing.T) {
	t.Parallel()
	refused := func(code string) error { return &pgconn.PgError{Code: code} }
	for name, c := range map[string]struct {
		err   error
		split bool
	}{
		"cardinality violation":     {refused("21000"), true},
		"value out of range":        {refused("22003"), true},
		"text that is not UTF-8":    {refused("22021"), true},
		"violated check":            {refused("23514"), true},
		"panic":                     {&coalesce.PanicError{Value: "x"}, true},
		"lost connection":           {refused("08006"), false},
		"deadlock":                  {refused("40P01"), false},
		"shutdown of the server":    {refused("57P01"), false},
		"time limit":                {context.DeadlineExceeded, false},
		"index entry that is large": {refused("54000"), false},
	} {
		require.Equal(t, c.split, spoilsBatch(fmt.Errorf("write points: %w", c.err)), name)
	}
}
