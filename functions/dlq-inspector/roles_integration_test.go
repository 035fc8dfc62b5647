//go:build integration

package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"marketdata/functions/dlq-inspector/internal/lettertest"
)

// route is an operation of the OpenAPI document.
type route struct{ method, path string }

func (b bundle) documented(t *testing.T) (routes []route, statuses map[route]map[string]any) {
	t.Helper()
	w := httptest.NewRecorder()
	b.http.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/openapi.json", nil))
	require.Equal(t, http.StatusOK, w.Code)
	var doc struct {
		Paths map[string]map[string]struct{ Responses map[string]any }
	}
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &doc))
	statuses = map[route]map[string]any{}
	for path, operations := range doc.Paths {
		for method, operation := range operations {
			if strings.HasPrefix(path, "/dlq") {
				r := route{strings.ToUpper(method), path}
				routes = append(routes, r)
				statuses[r] = operation.Responses
			}
		}
	}
	return routes, statuses
}

// dump returns all rows of all tables.
func (b bundle) dump(t *testing.T) map[string][]string {
	t.Helper()
	rows, err := b.pool.Query(t.Context(), "select table_name::text from information_schema.tables where table_schema = 'public'")
	require.NoError(t, err)
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.Contains(t, tables, "dead_letters")
	all := map[string][]string{}
	for _, table := range tables {
		rows, err := b.pool.Query(t.Context(), "select t::text from "+pgx.Identifier{table}.Sanitize()+" t order by 1")
		require.NoError(t, err)
		all[table], err = pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
	}
	return all
}

// A reader's token gets whatever a GET has, and changes nothing by any route that there is; nor does a GET of an operator.
func TestReadersChangeNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.letterOf(t, lettertest.Poison)
	require.Equal(t, 204, b.post(0, lettertest.Poison))
	message := fmt.Sprint(b.only(t)["id"])
	replay := b.replayMany(t, `{"filter":{"symbol":"NONE"}}`)
	b.finish(t, replay)
	ids := map[string]string{"/dlq/messages/": message, "/dlq/replays/": replay.ID.String()}
	send := func(r route, token string) (int, string) {
		path := r.path
		for prefix, id := range ids {
			if strings.HasPrefix(path, prefix) {
				path = strings.Replace(path, "{id}", id, 1)
			}
		}
		require.NotContains(t, path, "{")
		request := httptest.NewRequest(r.method, path, nil)
		if r.method == http.MethodPost {
			request = httptest.NewRequest(r.method, path, strings.NewReader(`{"reason":"x"}`))
			request.Header.Set("Content-Type", "application/json")
		}
		request.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		b.http.ServeHTTP(w, request)
		return w.Code, w.Body.String()
	}
	routes, statuses := b.documented(t)
	before, changing := b.dump(t), 0
	for _, r := range routes {
		status, body := send(r, readersToken)
		require.Equal(t, before, b.dump(t), "%s %s", r.method, r.path)
		if r.method == http.MethodGet {
			require.Equal(t, http.StatusOK, status, "%s: %s", r.path, body)
			require.NotContains(t, statuses[r], "403", r.path)
			status, _ = send(r, "secret")
			require.Equal(t, http.StatusOK, status, r.path)
			require.Equal(t, before, b.dump(t), r.path)
			continue
		}
		changing++
		require.Equal(t, http.StatusForbidden, status, "%s %s: %s", r.method, r.path, body)
		require.Contains(t, body, `"read_only_token"`)
		require.Contains(t, statuses[r], "403", "%s %s is documented", r.method, r.path)
	}
	require.GreaterOrEqual(t, changing, 5)
	for _, r := range routes {
		status, body := send(r, "secret")
		require.NotContains(t, []int{401, 403, 404, 405, 415}, status, "an operator gets further: %s %s: %s", r.method, r.path, body)
	}
	require.NotEqual(t, before, b.dump(t), "the requests do change something with an operator's token")
}

func TestWhoseTokenItIs(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for token, want := range map[string]string{"secret": `{"name":"operator","role":"operator"}`, readersToken: `{"name":"rita","role":"reader"}`} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequest(http.MethodGet, "/dlq/me", nil)
			r.Header.Set("Authorization", "Bearer "+token)
			w := httptest.NewRecorder()
			b.http.ServeHTTP(w, r)
			require.Equal(t, http.StatusOK, w.Code)
			require.JSONEq(t, want, w.Body.String())
		})
	}
}
