package coalesce_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/shared/coalesce"
)

var errSpoilt = errors.New("one item fails the batch")

// recorder is a commit that records its batches and waits for gate.
type recorder struct {
	batches [][]int
	gate    chan struct{} // commits wait until it is closed; nil: they do not wait
	bad     map[int]error
	panics  map[int]bool
}

func (r *recorder) commit(ctx context.Context, items []int) ([]string, error) {
	r.batches = append(r.batches, slices.Clone(items))
	if r.gate != nil {
		select {
		case <-r.gate:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	out := make([]string, len(items))
	for i, item := range items {
		if r.panics[item] {
			panic(item)
		}
		if err := r.bad[item]; err != nil {
			return nil, err
		}
		out[i] = string(rune('a' + item))
	}
	return out, nil
}

func options() coalesce.Options {
	return coalesce.Options{
		MaxBatch: 10, MaxQueue: 100, Timeout: time.Minute,
		Split: func(err error) bool {
			_, panicked := errors.AsType[*coalesce.PanicError](err)
			return panicked || errors.Is(err, errSpoilt)
		},
	}
}

type answer struct {
	result string
	err    error
}

// ask calls Do in the background; the answer is set once Do has returned and synctest.Wait has been called.
func ask(ctx context.Context, c *coalesce.Coalescer[int, string], item int) *answer {
	a := &answer{}
	go func() { a.result, a.err = c.Do(ctx, item) }()
	synctest.Wait()
	return a
}

func TestWaitingItemsShareTheNextCommit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{gate: make(chan struct{})}
		c := coalesce.New(r.commit, options())
		var all []*answer
		for i := range 13 {
			all = append(all, ask(t.Context(), c, i))
		}
		require.Equal(t, [][]int{{0}}, r.batches, "a lone item is committed at once")
		close(r.gate)
		synctest.Wait()
		require.Equal(t, [][]int{{0}, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, {11, 12}}, r.batches)
		for i, a := range all {
			require.Equal(t, answer{result: string(rune('a' + i))}, *a)
		}
		c.Close()
	})
}

func TestBatchesBeginAtIntervalsButAtOnceAfterAPause(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		type batch struct {
			after time.Duration
			items []int
		}
		var batches []batch
		began := time.Now()
		commit := func(_ context.Context, items []int) ([]string, error) {
			batches = append(batches, batch{time.Since(began), slices.Clone(items)})
			return make([]string, len(items)), nil
		}
		o := options()
		o.Every = 5 * time.Millisecond
		c := coalesce.New(commit, o)
		for i, pause := range []time.Duration{0, 0, time.Millisecond, 14 * time.Millisecond, 0} {
			time.Sleep(pause)
			ask(t.Context(), c, i)
		}
		c.Close()
		require.Equal(t, []batch{
			{0, []int{0}}, {5 * time.Millisecond, []int{1, 2}}, {15 * time.Millisecond, []int{3}}, {20 * time.Millisecond, []int{4}},
		}, batches)
	})
}

// The interval is between the starts of batches, so the time that a commit takes is part of it.
func TestASlowCommitDoesNotLengthenTheInterval(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var starts []time.Duration
		takes := []time.Duration{3 * time.Millisecond, 8 * time.Millisecond, 0} // the second takes longer than the interval
		commit := func(_ context.Context, items []int) ([]string, error) {
			starts = append(starts, time.Since(began))
			time.Sleep(takes[len(starts)-1])
			return make([]string, len(items)), nil
		}
		o := options()
		o.Every = 5 * time.Millisecond
		o.MaxBatch = 1
		c := coalesce.New(commit, o)
		for i := range takes {
			require.NoError(t, c.Add(i))
		}
		c.Close()
		require.Equal(t, []time.Duration{0, 5 * time.Millisecond, 13 * time.Millisecond}, starts)
	})
}

func TestAddCommitsWithoutWaiting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{gate: make(chan struct{})}
		o := options()
		o.MaxQueue = 2
		c := coalesce.New(r.commit, o)
		require.NoError(t, c.Add(0))
		synctest.Wait()
		require.NoError(t, c.Add(1))
		require.NoError(t, c.Add(2))
		require.ErrorIs(t, c.Add(3), coalesce.ErrFull)
		close(r.gate)
		c.Close()
		require.Equal(t, [][]int{{0}, {1, 2}}, r.batches, "Close commits waiting items")
		require.ErrorIs(t, c.Add(4), coalesce.ErrClosed)
	})
}

func TestOneBadItemDoesNotFailTheOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{gate: make(chan struct{}), bad: map[int]error{2: errSpoilt}, panics: map[int]bool{4: true}}
		c := coalesce.New(r.commit, options())
		var all []*answer
		for i := range 6 {
			all = append(all, ask(t.Context(), c, i))
		}
		close(r.gate)
		synctest.Wait()
		require.Equal(t, [][]int{{0}, {1, 2, 3, 4, 5}, {1}, {2}, {3}, {4}, {5}}, r.batches)
		for i, a := range all {
			switch i {
			case 2:
				require.ErrorIs(t, a.err, errSpoilt)
			case 4:
				panicked, ok := errors.AsType[*coalesce.PanicError](a.err)
				require.True(t, ok)
				require.Equal(t, 4, panicked.Value)
				require.Contains(t, a.err.Error(), "coalesce_test.go", "the stack is for the log")
			default:
				require.Equal(t, answer{result: string(rune('a' + i))}, *a)
			}
		}
		c.Close()
	})
}

// Only a batch that failed is split, and only if it has several items.
func TestOnlyAFailedBatchIsSplit(t *testing.T) {
	t.Parallel()
	always := func(error) bool { return true }
	for name, c := range map[string]struct {
		split   func(error) bool
		bad     int
		items   int // that wait for the first commit
		batches [][]int
	}{
		"two items":   {always, 2, 2, [][]int{{0}, {1, 2}, {1}, {2}}},
		"a lone item": {always, 1, 1, [][]int{{0}, {1}}},
		"no bad item": {always, -1, 2, [][]int{{0}, {1, 2}}},
		"never":       {nil, 2, 2, [][]int{{0}, {1, 2}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := &recorder{gate: make(chan struct{}), bad: map[int]error{c.bad: errSpoilt}}
				o := options()
				o.Split = c.split
				coalescer := coalesce.New(r.commit, o)
				var last *answer
				for i := range 1 + c.items {
					last = ask(t.Context(), coalescer, i)
				}
				close(r.gate)
				coalescer.Close()
				synctest.Wait()
				require.Equal(t, c.batches, r.batches)
				require.Equal(t, c.bad == c.items, errors.Is(last.err, errSpoilt))
			})
		})
	}
}

// A commit must not give one item the result of another.
func TestCommitWithTooFewResultsFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := coalesce.New(func(context.Context, []int) ([]string, error) { return nil, nil }, options())
		_, err := c.Do(t.Context(), 0)
		require.ErrorContains(t, err, "0 results for 1 items")
		_, err = c.Do(t.Context(), 1)
		require.ErrorContains(t, err, "0 results for 1 items", "the coalescer still runs")
		c.Close()
	})
}

func TestErrorOfTheWholeBatchFailsAllItems(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		down := errors.New("database is down")
		r := &recorder{gate: make(chan struct{}), bad: map[int]error{2: down}}
		c := coalesce.New(r.commit, options())
		var all []*answer
		for i := range 4 {
			all = append(all, ask(t.Context(), c, i))
		}
		close(r.gate)
		synctest.Wait()
		require.Equal(t, [][]int{{0}, {1, 2, 3}}, r.batches, "not retried one by one")
		require.NoError(t, all[0].err)
		for _, a := range all[1:] {
			require.ErrorIs(t, a.err, down)
		}
		c.Close()
	})
}

func TestCancelledCallerRemovesOnlyAWaitingItem(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{gate: make(chan struct{})}
		c := coalesce.New(r.commit, options())
		ctx, cancel := context.WithCancel(t.Context())
		inFlight := ask(ctx, c, 0)
		waits := ask(ctx, c, 1)
		stays := ask(t.Context(), c, 2)
		cancel()
		synctest.Wait()
		require.ErrorIs(t, inFlight.err, context.Canceled)
		require.ErrorIs(t, waits.err, context.Canceled)
		close(r.gate)
		synctest.Wait()
		require.Equal(t, [][]int{{0}, {2}}, r.batches, "the commit in flight continued; the waiting item was not committed")
		require.Equal(t, answer{result: "c"}, *stays)
		c.Close()
	})
}

func TestQueueIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{gate: make(chan struct{})}
		o := options()
		o.MaxQueue = 2
		c := coalesce.New(r.commit, o)
		var all []*answer
		for i := range 4 {
			all = append(all, ask(t.Context(), c, i))
		}
		require.ErrorIs(t, all[3].err, coalesce.ErrFull, "at once, without waiting for room")
		close(r.gate)
		synctest.Wait()
		require.Equal(t, [][]int{{0}, {1, 2}}, r.batches)
		c.Close()
	})
}

func TestCloseCommitsWaitingItems(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{gate: make(chan struct{})}
		c := coalesce.New(r.commit, options())
		first, second := ask(t.Context(), c, 0), ask(t.Context(), c, 1)
		closed := false
		go func() { c.Close(); closed = true }()
		synctest.Wait()
		require.False(t, closed, "not before all items have their outcome")
		require.ErrorIs(t, ask(t.Context(), c, 2).err, coalesce.ErrClosed)
		close(r.gate)
		synctest.Wait()
		require.True(t, closed)
		require.Equal(t, answer{result: "a"}, *first)
		require.Equal(t, answer{result: "b"}, *second)
	})
}

func TestHangingCommitTimesOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{gate: make(chan struct{})}
		c := coalesce.New(r.commit, options())
		began := time.Now()
		_, err := c.Do(t.Context(), 0)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, time.Minute, time.Since(began))
		c.Close()
	})
}

func TestOverlapDoesNotWaitForALateCommit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		commit := func(_ context.Context, items []int) ([]int, error) {
			if items[0] == 0 {
				<-gate
			}
			return items, nil
		}
		o := options()
		o.Overlap = 5 * time.Millisecond
		c := coalesce.New(commit, o)
		late := make(chan int)
		go func() {
			n, _ := c.Do(t.Context(), 0)
			late <- n
		}()
		synctest.Wait()
		began := time.Now()
		for i := 1; i <= 3; i++ {
			n, err := c.Do(t.Context(), i)
			require.NoError(t, err)
			require.Equal(t, i, n)
		}
		require.Equal(t, o.Overlap, time.Since(began), "only the first waited for the late commit")
		require.NoError(t, c.Add(0))
		synctest.Wait() // it has a batch of its own
		_, err := c.Do(t.Context(), 4)
		require.NoError(t, err)
		require.Equal(t, 2*o.Overlap, time.Since(began), "nor does a batch wait longer for a second late commit")
		closed := make(chan struct{})
		go func() {
			defer close(closed)
			c.Close()
		}()
		synctest.Wait()
		select {
		case <-closed:
			t.Fatal("closed before the late commit had its outcome")
		default:
		}
		close(gate)
		require.Zero(t, <-late)
		<-closed
	})
}
