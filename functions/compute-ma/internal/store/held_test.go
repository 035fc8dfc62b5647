package store

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/functions/compute-ma/internal/series"
)

// A held series is left out for two seconds, whatever other series are found held meanwhile.
func TestHeldSeriesAreForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var h heldSeries
		require.Empty(t, h.now())
		require.Equal(t, map[series.Key]bool{key("A"): true}, h.add([]series.Key{key("A")}))
		time.Sleep(time.Second)
		require.Equal(t, map[series.Key]bool{key("A"): true, key("B"): true, key("C"): true}, h.add([]series.Key{key("B"), key("C")}))
		time.Sleep(1500 * time.Millisecond)
		require.Equal(t, map[series.Key]bool{key("B"): true, key("C"): true}, h.now())
		time.Sleep(time.Second)
		require.Empty(t, h.now())
	})
}

// A series that is known needs no statement. Once too many are known, all are forgotten.
func TestKnownSeriesNeedNoStatement(t *testing.T) {
	t.Parallel()
	var n knownSeries
	n.remember([]series.Key{key("A")})
	require.NoError(t, n.ensure(t.Context(), nil, []series.Key{key("A")})) // it has no pool
	for i := range maxKnown {
		n.remember([]series.Key{key(fmt.Sprint("S", i))})
	}
	require.Empty(t, n.missing([]series.Key{key("A")}))
	n.remember([]series.Key{key("B")})
	require.Equal(t, []series.Key{key("A")}, n.missing([]series.Key{key("A"), key("B")}))
}
