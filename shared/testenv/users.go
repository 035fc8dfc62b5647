package testenv

import (
	"context"
	"net/url"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"marketdata/shared/postgres/roles"
)

// UserURL returns a Postgres URL with a user whose name is new on the server, which all tests share. The user is dropped at the test's
// end, if somebody has created it.
func UserURL(tb testing.TB, databaseURL string) string {
	tb.Helper()
	u, err := url.Parse(databaseURL)
	require.NoError(tb, err)
	name := "test_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	u.User = url.UserPassword(name, "hunter2 für "+name)
	tb.Cleanup(func() {
		ctx := context.Background()
		conn, err := pgx.Connect(ctx, databaseURL)
		require.NoError(tb, err)
		defer conn.Close(ctx) //nolint:errcheck // nothing depends on it
		_, err = conn.Exec(ctx, "drop role if exists "+name)
		require.NoError(tb, err)
	})
	return u.String()
}

// Users creates a user for each function, as the migration does, and returns their URLs by function.
func Users(tb testing.TB, databaseURL string) map[string]string {
	tb.Helper()
	urls := map[string]string{}
	for _, function := range roles.Functions {
		urls[function] = UserURL(tb, databaseURL)
		require.NoError(tb, roles.Login(tb.Context(), databaseURL, function, urls[function]))
	}
	return urls
}
