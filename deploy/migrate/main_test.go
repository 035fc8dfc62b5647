package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestEmptyDatabaseURLIsAnError(t *testing.T) {
	t.Setenv("DATABASE_URL", "")
	require.ErrorContains(t, run(t.Context()), "DATABASE_URL is empty")
}
