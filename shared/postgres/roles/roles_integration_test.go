//go:build integration

package roles_test

import (
	"context"
	"errors"
	"fmt"
	neturl "net/url"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"marketdata/shared/postgres/roles"
	"marketdata/shared/testenv"
)

const (
	latest    = "get-latest"
	poll      = "poll"
	averages  = "compute-ma"
	inspector = "dlq-inspector"
)

// contract has every table and view, and what each function may do with it. What is not here is forbidden.
var contract = map[string]map[string]string{
	"schema_version": {},

	"raw_responses":       {latest: "insert", poll: "select insert update(body)"},
	"outbox":              {latest: "insert delete select(id,headers)", poll: "select insert update delete"},
	"provider_day_counts": {latest: "select insert update", poll: "select insert update"},

	"price_points":    {latest: "select", averages: "select insert update"},
	"price_series":    {averages: "select insert update delete"},
	"symbol_averages": {averages: "select"},

	"polling_jobs":             {poll: "select insert update delete"},
	"polling_runs":             {poll: "select insert update delete"},
	"polling_results":          {poll: "select insert update"},
	"polling_series":           {poll: "select insert update"},
	"polling_idempotency_keys": {poll: "select insert update delete"},
	"provider_backoffs":        {poll: "select insert update delete"},
	"backfills":                {poll: "select insert update delete"},
	"backfill_series":          {poll: "select insert update"},
	"bar_series":               {poll: "select insert update", averages: "select"},

	"dead_letters":                {inspector: "select insert update delete"},
	"dead_letter_failures":        {inspector: "select insert update"},
	"dead_letter_audit":           {inspector: "select insert"},
	"dead_letter_counts":          {inspector: "select insert update delete"},
	"dead_letter_hours":           {inspector: "select insert update delete"},
	"dead_letter_texts":           {inspector: "select insert update"},
	"dead_letters_to_index":       {inspector: "select insert update delete"},
	"dead_letter_replays":         {inspector: "select insert update"},
	"dead_letter_replay_keys":     {inspector: "select insert update delete"},
	"dead_letter_verdicts":        {inspector: "select insert delete"},
	"dead_letter_removed_records": {inspector: "select insert"},
}

// privileges returns what each role may do with each table, as PostgreSQL itself decides it, in the form of the contract.
func privileges(t *testing.T, conn *pgx.Conn, role string) map[string]string {
	t.Helper()
	rows, err := conn.Query(t.Context(), `
		select c.relname, concat_ws(' ',
			(select string_agg(p, ' ' order by n) from unnest(array['select', 'insert', 'update', 'delete', 'truncate', 'references', 'trigger']) with ordinality w (p, n)
				where has_table_privilege($1, c.oid, p)),
			(select string_agg(p || '(' || columns || ')', ' ' order by p) from (
				select p, string_agg(attname, ',' order by attnum) as columns
				from unnest(array['select', 'insert', 'update', 'references']) p, pg_attribute f
				where f.attrelid = c.oid and attnum > 0 and not attisdropped and has_column_privilege($1, c.oid, attnum, p) and not has_table_privilege($1, c.oid, p)
				group by p) by_column))
		from pg_class c
		where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v', 'm', 'f')`, role)
	require.NoError(t, err)
	got := map[string]string{}
	var table, can string
	_, err = pgx.ForEachRow(rows, []any{&table, &can}, func() error { got[table] = can; return nil })
	require.NoError(t, err)
	require.NotEmpty(t, got)
	return got
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) }) // the database is dropped next
	return conn
}

func TestEachRoleHasExactlyItsPrivileges(t *testing.T) {
	t.Parallel()
	conn := connect(t, testenv.PostgresURL(t))
	for _, function := range roles.Functions {
		got := privileges(t, conn, roles.Name(function))
		for table := range got {
			require.Contains(t, contract, table, "%s is a new table: write down here what each function may do with it, and grant that in shared/postgres/roles/*.sql", table)
		}
		want := map[string]string{}
		for table, can := range contract {
			want[table] = can[function]
		}
		require.Equal(t, want, got, function)
	}
	rows, err := conn.Query(t.Context(), `
		select concat_ws(' ', 'role', rolname) from pg_roles
		where rolname = any($1) and (rolcanlogin or rolsuper or rolcreaterole or rolcreatedb or rolreplication or rolbypassrls)
		union all
		select concat_ws(' ', 'member', rolname) from pg_auth_members m join pg_roles r on r.oid = m.member where rolname = any($1)
		union all
		select concat_ws(' ', 'owner', rolname) from pg_roles r where rolname = any($1) and exists (select from pg_shdepend where refobjid = r.oid and deptype = 'o')
		union all
		select concat_ws(' ', 'sequence', rolname, relname) from pg_roles r, pg_class
		where rolname = any($1) and relnamespace = 'public'::regnamespace and relkind = 'S' and has_sequence_privilege(r.oid, pg_class.oid, 'select,usage,update')
		union all
		select concat_ws(' ', 'schema', rolname) from pg_roles r where rolname = any($1) and has_schema_privilege(r.oid, 'public', 'create')
		union all
		select concat_ws(' ', 'database', rolname) from pg_roles r where rolname = any($1) and has_database_privilege(r.oid, current_database(), 'create')
		union all
		select concat_ws(' ', 'function with the rights of its owner', proname) from pg_proc where pronamespace = 'public'::regnamespace and prosecdef`, names())
	require.NoError(t, err)
	more, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.Empty(t, more, "the roles have nothing but these privileges")
}

func names() (names []string) {
	for _, function := range roles.Functions {
		names = append(names, roles.Name(function))
	}
	return names
}

// What an attacker would try who runs statements as a function.
func TestForbiddenStatementsAreRefused(t *testing.T) {
	t.Parallel()
	url := testenv.PostgresURL(t)
	users := testenv.Users(t, url)
	var owner string
	require.NoError(t, connect(t, url).QueryRow(t.Context(), "select quote_ident(current_user)").Scan(&owner))
	everybody := []string{
		"create table mine (id integer)", "create schema mine", "create function mine() returns integer language sql as 'select 1'",
		"alter table outbox add column mine integer", "drop table outbox", "truncate dead_letter_audit", "update schema_version set version = 1",
		"grant select on schema_version to public", "create role mine", "grant marketdata_dlq_inspector to current_user",
		"set role " + owner, "set role pg_read_all_data", "select rolpassword from pg_authid", "select pg_read_file('postgresql.conf')",
		"copy (select 1) to program 'true'", "alter system set log_statement = 'all'", "select pg_reload_conf()",
	}
	for function, forbidden := range map[string][]string{
		latest: {
			"select from dead_letters", "select value from outbox", "update outbox set value = ''", "select body from raw_responses", "delete from raw_responses",
			"insert into price_points select * from price_points", "update price_points set price = 1", "select from polling_jobs",
		},
		poll: {
			"select from price_points", "update price_points set price = 1", "delete from raw_responses", "update raw_responses set symbol = 'X'", "select from dead_letters",
		},
		averages: {
			"delete from price_points", "truncate price_points", "update bar_series set since = null", "select from outbox", "select from raw_responses", "select from dead_letters",
		},
		inspector: {
			"update price_points set price = 1", "select from price_points", "delete from dead_letter_audit", "update dead_letter_audit set who = 'nobody'", "delete from outbox",
			"delete from dead_letter_removed_records",
		},
	} {
		t.Run(function, func(t *testing.T) {
			t.Parallel()
			conn := connect(t, users[function])
			for _, statement := range append(forbidden, everybody...) {
				_, err := conn.Exec(t.Context(), statement)
				require.Equal(t, "42501", code(err), "%s: %v", statement, err)
			}
		})
	}
}

func code(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}

// Whatever somebody granted or revoked by hand, a migration restores the contract. On PostgreSQL 14, everybody can create tables at first.
func TestGrantRestoresTheContract(t *testing.T) {
	t.Parallel()
	url := testenv.PostgresURL(t)
	conn := connect(t, url)
	before := privileges(t, conn, roles.Name(poll))
	_, err := conn.Exec(t.Context(), `
		grant all on price_points to marketdata_poll;
		grant update (value), references (id) on outbox to marketdata_poll;
		revoke select on polling_jobs from marketdata_poll;
		grant usage on sequence outbox_id_seq to marketdata_poll;
		grant create on schema public to public`)
	require.NoError(t, err)
	require.NotEqual(t, before, privileges(t, conn, roles.Name(poll)))
	for range 2 {
		missing, err := roles.Grant(t.Context(), url)
		require.NoError(t, err)
		require.Empty(t, missing)
	}
	require.Equal(t, before, privileges(t, conn, roles.Name(poll)))
	var left bool
	require.NoError(t, conn.QueryRow(t.Context(), `
		select has_sequence_privilege('marketdata_poll', 'outbox_id_seq', 'usage') or has_schema_privilege('marketdata_poll', 'public', 'create')`).Scan(&left))
	require.False(t, left)
}

// The script of deploy/SCALING.md replaces a table.
func TestPartitionsKeepThePrivileges(t *testing.T) {
	t.Parallel()
	conn := connect(t, testenv.PostgresURL(t))
	script, err := os.ReadFile("../../../deploy/partition.sql")
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), string(script))
	require.NoError(t, err)
	for _, function := range roles.Functions {
		got := privileges(t, conn, roles.Name(function))
		require.Equal(t, contract["price_points"][function], got["price_points"], function)
		require.Empty(t, got["price_points_0"], function)
	}
}

func TestLogin(t *testing.T) {
	t.Parallel()
	url := testenv.PostgresURL(t)
	t.Run("a new user", func(t *testing.T) {
		t.Parallel()
		own := testenv.UserURL(t, url)
		for range 2 {
			require.NoError(t, roles.Login(t.Context(), url, poll, own))
		}
		var can bool
		require.NoError(t, connect(t, own).QueryRow(t.Context(), "select has_table_privilege('polling_jobs', 'select')").Scan(&can))
		require.True(t, can)
	})
	t.Run("a user that somebody made", func(t *testing.T) {
		t.Parallel()
		own := testenv.UserURL(t, url)
		create(t, url, own, password(t, own))
		require.NoError(t, roles.Login(t.Context(), url, poll, own))
		_, err := connect(t, own).Exec(t.Context(), "select from polling_jobs")
		require.NoError(t, err)
	})
	t.Run("another password", func(t *testing.T) {
		t.Parallel()
		own := testenv.UserURL(t, url)
		user := create(t, url, own, "another one")
		err := roles.Login(t.Context(), url, poll, own)
		require.ErrorContains(t, err, "connect with POLL_DATABASE_URL")
		require.NotContains(t, err.Error(), "hunter2")
		var member bool
		conn := connect(t, url)
		require.NoError(t, conn.QueryRow(t.Context(), "select pg_has_role($1, 'marketdata_poll', 'member')", user).Scan(&member))
		require.False(t, member)
	})
	t.Run("no connection string", func(t *testing.T) {
		t.Parallel()
		require.EqualError(t, roles.Login(t.Context(), url, poll, "hunter2 with spaces"), "POLL_DATABASE_URL is not a Postgres connection string")
	})
	t.Run("an owner", func(t *testing.T) {
		t.Parallel()
		require.NoError(t, roles.Login(t.Context(), url, averages, url), "who may do everything")
	})
}

func password(t *testing.T, url string) string {
	t.Helper()
	u, err := neturl.Parse(url)
	require.NoError(t, err)
	password, _ := u.User.Password()
	return password
}

// create makes the user of a URL by hand, and returns its name.
func create(t *testing.T, url, userURL, password string) string {
	t.Helper()
	u, err := neturl.Parse(userURL)
	require.NoError(t, err)
	_, err = connect(t, url).Exec(t.Context(), fmt.Sprintf("create role %s login password '%s'", u.User.Username(), password))
	require.NoError(t, err)
	return u.User.Username()
}
