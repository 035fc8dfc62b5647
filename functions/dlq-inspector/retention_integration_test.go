//go:build integration

package main

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"marketdata/functions/dlq-inspector/internal/lettertest"
)

// A consumer group that is reset delivers all records of the dead letter topic again. Letters that were settled stay so, whether they are
// still there or were removed meanwhile.
func TestALateCopyOfAnOldLetterDoesNotReopenIt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.letterOf(t, lettertest.Poison)
	require.Equal(t, 204, b.post(0, lettertest.Poison))
	b.circulated(t, 0, lettertest.Poison)
	path := fmt.Sprint("/dlq/messages/", b.only(t)["id"])
	status, _ := b.do(t, http.MethodPost, path+"/discard", `{"reason":"known"}`)
	require.Equal(t, http.StatusOK, status)
	redelivered := func(letters int) {
		t.Helper()
		require.Equal(t, 204, b.post(0, lettertest.Poison))
		require.Equal(t, 204, b.post(1, lettertest.Poison))
		b.listed(t, letters)
	}
	b.tick(t)
	redelivered(1)
	require.Equal(t, "discarded", b.only(t)["status"])
	lettertest.Exec(t, b.pool, "update dead_letters set status_since = now() - interval '91 days'")
	b.tick(t)
	redelivered(0)
	b.letterOf(t, lettertest.Poison) // compute-ma refused the same record again
	require.Equal(t, 204, b.post(2, lettertest.Poison))
	b.listed(t, 0)
	status, answer := b.do(t, http.MethodPost, path+"/restore", "")
	require.Equal(t, http.StatusNotFound, status)
	require.Equal(t, "message_not_found", answer["code"])
}
