package fault_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/shared/fault"
)

func TestClassification(t *testing.T) {
	t.Parallel()
	cause := errors.New("password=hunter2")
	cases := map[string]struct {
		err       error
		kind      fault.Kind
		code      string
		permanent bool
	}{
		"invalid":         {fault.New(fault.Invalid, "bad", "x"), fault.Invalid, "bad", true},
		"not found":       {fault.New(fault.NotFound, "gone", "x"), fault.NotFound, "gone", true},
		"unavailable":     {fault.Wrap(cause, fault.Unavailable, "away", "x"), fault.Unavailable, "away", false},
		"limited":         {fault.New(fault.Limited, "slow", "x"), fault.Limited, "slow", false},
		"conflict":        {fault.New(fault.Conflict, "taken", "x"), fault.Conflict, "taken", false},
		"wrapped twice":   {fmt.Errorf("a: %w", fmt.Errorf("b: %w", fault.New(fault.Invalid, "bad", "x"))), fault.Invalid, "bad", true},
		"joined":          {errors.Join(cause, fault.New(fault.Invalid, "bad", "x")), fault.Invalid, "bad", true},
		"unknown":         {cause, fault.Internal, "internal", false},
		"outermost wins":  {fault.Wrap(fault.New(fault.Invalid, "bad", "x"), fault.Unavailable, "away", "x"), fault.Unavailable, "away", false},
		"nil is internal": {nil, fault.Internal, "internal", false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.kind, fault.KindOf(c.err))
			require.Equal(t, c.code, fault.CodeOf(c.err))
			require.Equal(t, c.permanent, fault.Permanent(c.err))
		})
	}
}

func TestCauseIsKeptButNotInDetail(t *testing.T) {
	t.Parallel()
	cause := errors.New("secret dsn")
	err := fault.Wrap(cause, fault.Unavailable, "storage_unavailable", "try %s", "later").After(time.Second)
	require.ErrorIs(t, err, cause)
	require.Equal(t, "try later", err.Detail)
	require.NotContains(t, err.Detail, "secret")
	require.Equal(t, time.Second, err.RetryAfter)
	require.Equal(t, "storage_unavailable: try later: secret dsn", err.Error(), "for the log")
}

func TestWithoutACause(t *testing.T) {
	t.Parallel()
	err := fault.New(fault.NotFound, "symbol_not_found", "no symbol %q", "NOSUCH")
	require.Equal(t, `no symbol "NOSUCH"`, err.Detail)
	require.Equal(t, `symbol_not_found: no symbol "NOSUCH"`, err.Error())
	require.NoError(t, err.Unwrap())
}
