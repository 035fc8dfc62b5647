//go:build integration

package e2e

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// nowhere checks that text contains no key, be it plain or escaped as in URLs, JSON or bytea, in any case. It must contain control,
// which proves that the right text is searched.
func nowhere(t *testing.T, where, text, control string) {
	t.Helper()
	require.True(t, strings.Contains(text, control), "%s: %s not found in %d bytes", where, control, len(text)) //nolint:testifylint // Contains would print the text, which may be a whole database
	text = strings.ToLower(text)
	for provider, key := range providerKeys {
		quoted, err := json.Marshal(key)
		require.NoError(t, err)
		for _, form := range []string{
			key, url.QueryEscape(key), url.PathEscape(key), strings.Trim(string(quoted), `"`), strings.ReplaceAll(key, "/", `\/`), hex.EncodeToString([]byte(key)),
		} {
			if i := strings.Index(text, strings.ToLower(form)); i >= 0 {
				require.Fail(t, "the key of "+provider+" is in "+where, text[max(i-200, 0):min(i+200, len(text))])
			}
		}
	}
}

// everyTable returns all rows of all tables as text, with bytea as hex.
func everyTable(t *testing.T, s *stack) string {
	t.Helper()
	text := func(query string) []string {
		rows, err := s.pool.Query(t.Context(), query)
		require.NoError(t, err)
		out, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		return out
	}
	tables := text("select format('%I.%I', schemaname, tablename) from pg_tables where schemaname not in ('pg_catalog', 'information_schema')")
	require.Greater(t, len(tables), 5)
	var all []string
	for _, table := range tables {
		all = append(all, table)
		all = append(all, text("select r::text from "+table+" r")...)
	}
	return strings.Join(all, "\n")
}

// everyRecord returns all records of the stack's topics as text.
func everyRecord(t *testing.T, s *stack) string {
	t.Helper()
	var all strings.Builder
	for _, topic := range []string{s.topics().Events, s.topics().DeadLetters} {
		for _, m := range s.records(t, topic) {
			_, _ = fmt.Fprintf(&all, "%s %s %s\n", topic, m.Key, m.Value)
			for _, h := range m.Headers {
				_, _ = fmt.Fprintf(&all, "%s: %s\n", h.Key, h.Value)
			}
		}
	}
	return all.String()
}

// everyRedisValue returns all keys of Redis with their values.
func everyRedisValue(t *testing.T, s *stack) string {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	options, err := redis.ParseURL(s.env["REDIS_URL"])
	require.NoError(t, err)
	client := redis.NewClient(options)
	defer client.Close() //nolint:errcheck // only reads
	var all strings.Builder
	keys := client.Scan(ctx, 0, "*", 1000).Iterator()
	for keys.Next(ctx) {
		var value any
		switch kind := client.Type(ctx, keys.Val()).Val(); kind {
		case "string":
			value = client.Get(ctx, keys.Val()).Val()
		case "list":
			value = client.LRange(ctx, keys.Val(), 0, -1).Val()
		case "hash":
			value = client.HGetAll(ctx, keys.Val()).Val()
		case "set":
			value = client.SMembers(ctx, keys.Val()).Val()
		case "zset":
			value = client.ZRange(ctx, keys.Val(), 0, -1).Val()
		case "none": // expired in the meantime
		default:
			require.Fail(t, "unknown type of value", kind)
		}
		_, _ = fmt.Fprintln(&all, keys.Val(), value)
	}
	require.NoError(t, keys.Err())
	return all.String()
}
