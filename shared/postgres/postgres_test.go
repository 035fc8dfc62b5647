package postgres_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"marketdata/shared/fault"
	"marketdata/shared/postgres"
)

func TestClassify(t *testing.T) {
	t.Parallel()
	pg := func(code string) error { return fmt.Errorf("load: %w", &pgconn.PgError{Code: code}) }
	cases := map[string]struct {
		err  error
		kind fault.Kind
	}{
		"no rows":            {fmt.Errorf("x: %w", pgx.ErrNoRows), fault.NotFound},
		"numeric overflow":   {pg("22003"), fault.Invalid},
		"check violation":    {pg("23514"), fault.Invalid},
		"cardinality":        {pg("21000"), fault.Unavailable},
		"deadlock":           {pg("40P01"), fault.Unavailable},
		"admin shutdown":     {pg("57P01"), fault.Unavailable},
		"undefined table":    {pg("42P01"), fault.Unavailable},
		"unknown":            {errors.New("boom"), fault.Unavailable},
		"a fault, unchanged": {fmt.Errorf("x: %w", fault.New(fault.Conflict, "taken", "x")), fault.Conflict},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.kind, fault.KindOf(postgres.Classify(c.err)))
		})
	}
	require.NoError(t, postgres.Classify(nil))
}

func TestClassifyOne(t *testing.T) {
	t.Parallel()
	missing := fault.New(fault.NotFound, "job_not_found", "x")
	for name, c := range map[string]struct {
		err  error
		kind fault.Kind
		code string
	}{
		"no rows":            {fmt.Errorf("x: %w", pgx.ErrNoRows), fault.NotFound, "job_not_found"},
		"unknown":            {errors.New("boom"), fault.Unavailable, "storage_unavailable"},
		"a fault, unchanged": {fmt.Errorf("x: %w", fault.New(fault.NotFound, "taken", "x")), fault.NotFound, "taken"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := postgres.ClassifyOne(c.err, missing)
			require.Equal(t, c.kind, fault.KindOf(err))
			require.Equal(t, c.code, fault.CodeOf(err))
		})
	}
	require.NoError(t, postgres.ClassifyOne(nil, missing))
}

func TestOpenNeverShowsThePassword(t *testing.T) {
	t.Parallel()
	_, err := postgres.Open(t.Context(), "postgres://u:hunter2@h:notaport/x")
	require.Error(t, err)
	require.NotContains(t, err.Error(), "hunter2")
}

func TestURLOverridesDefaults(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]time.Duration{
		"postgres://h/d":                              5 * time.Second,
		"postgres://h/d?connect_timeout=30":           30 * time.Second,
		"postgres://h/d?connect_timeout=0":            0, // as libpq: no limit
		"host=h dbname=d connect_timeout=7":           7 * time.Second,
		"postgres://h/d?pool_max_conns=9":             5 * time.Second,
		"postgres://h/d?application_name=me":          5 * time.Second,
		"postgres://h/d?default_query_exec_mode=exec": 5 * time.Second,
	} {
		t.Run(url, func(t *testing.T) {
			t.Parallel()
			pool, err := postgres.Open(t.Context(), url)
			require.NoError(t, err)
			config := pool.Config()
			pool.Close()
			connections := int32(4) // not as many as the machine has processors
			if strings.Contains(url, "pool_max_conns=9") {
				connections = 9
			}
			require.Equal(t, connections, config.MaxConns)
			require.Equal(t, want, config.ConnConfig.ConnectTimeout)
			for name := range config.ConnConfig.RuntimeParams {
				require.Contains(t, url, name, "a pooler in transaction mode refuses start-up parameters")
			}
		})
	}
}

func TestRetryOnlyAfterADeadlock(t *testing.T) {
	t.Parallel()
	calls := 0
	require.NoError(t, postgres.Retry(t.Context(), func() error {
		if calls++; calls < 3 {
			return fmt.Errorf("x: %w", &pgconn.PgError{Code: "40P01"})
		}
		return nil
	}))
	require.Equal(t, 3, calls)
	calls = 0
	require.Error(t, postgres.Retry(t.Context(), func() error { calls++; return errors.New("no") }))
	require.Equal(t, 1, calls)
}
