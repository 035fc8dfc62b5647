package load

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"marketdata/shared/testenv/wire"
)

const (
	permittedStreams = 1000 // STREAM_MAX_CLIENTS
	streamsAsked     = overloadFactor * permittedStreams
	changeEvery      = time.Second
)

// streams are clients of one series. Those that are refused ask again when they have been told to.
type streams struct {
	run  *run
	base string
	seen func() // is called for each state

	mu             sync.Mutex
	sent           map[time.Time]time.Time // when each state of the series was sent to compute-ma, by its as_of
	asked, refused int
	open           map[*listener]bool // those that are admitted, and have not ended
	took           []time.Duration    // from when a change was sent until a client had it
	other          map[string]int
}

// listener is a client whose stream was admitted.
type listener struct{ asOf time.Time }

func newStreams(m *run) *streams {
	return &streams{
		run: m, base: m.env[variable("compute-ma")], seen: func() {}, sent: map[time.Time]time.Time{}, open: map[*listener]bool{}, other: map[string]int{},
	}
}

// floodStreams asks for ten times as many streams as a replica permits, for a while, and changes their series each second. Those that are
// admitted see each change soon, and none misses the last one.
func (m *run) floodStreams(ctx context.Context) error {
	s := newStreams(m)
	if _, err := s.change(ctx, 0); err != nil {
		return err
	}
	before, began := wire.CPU(), time.Now()
	held, hangUp := context.WithCancel(ctx)
	defer hangUp()
	var clients sync.WaitGroup
	for range streamsAsked {
		clients.Go(func() { s.follow(held) })
	}
	var newest time.Time
	for n := 1; time.Since(began) < m.flooding; n++ {
		var err error
		if newest, err = s.change(ctx, n); err != nil {
			return err
		}
		select {
		case <-time.After(changeEvery):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	took := time.Since(began)
	var behind int
	err := await(ctx, 10*time.Second, func() (bool, error) { behind = s.behind(newest); return behind == 0, nil }, "without the newest state")
	if err != nil {
		err = fmt.Errorf("%d of %d streams are %w", behind, len(s.open), err)
	}
	used := wire.CPU() - before
	hangUp()
	clients.Wait()
	return errors.Join(err, s.report(ctx, took, used))
}

// change makes a new state of the series, and returns its as_of.
func (s *streams) change(ctx context.Context, n int) (time.Time, error) {
	e := newEvent("STREAM", n*eventSymbols)
	asOf, err := time.Parse(time.RFC3339, e.at)
	if err != nil {
		return asOf, fmt.Errorf("time of an event: %w", err)
	}
	conn, err := wire.New(s.base)
	if err != nil {
		return asOf, err
	}
	defer conn.Close()
	request := wire.Request("POST", s.base+"/", e.value, e.lines()...)
	for {
		s.mu.Lock()
		s.sent[asOf] = time.Now()
		s.mu.Unlock()
		switch status, _, err := conn.Do(request); {
		case err == nil && status == http.StatusNoContent:
			return asOf, nil
		case err != nil:
			return asOf, fmt.Errorf("send an event: %w", err)
		case status != http.StatusServiceUnavailable: // which sources repeat
			return asOf, fmt.Errorf("send an event: status %d", status)
		}
		if ctx.Err() != nil {
			return asOf, context.Cause(ctx)
		}
	}
}

// follow asks for a stream until it is admitted, and reads it until ctx ends.
func (s *streams) follow(ctx context.Context) {
	for ctx.Err() == nil {
		after, err := s.ask(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			s.mu.Lock()
			s.other[err.Error()]++
			s.mu.Unlock()
		}
		select {
		case <-time.After(cmp.Or(after, time.Second)):
		case <-ctx.Done():
		}
	}
}

// ask asks for a stream once. It returns when the stream has ended, or how long a refusal says to wait.
func (s *streams) ask(ctx context.Context) (after time.Duration, err error) {
	conn, err := (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, "tcp", s.base[len("http://"):])
	if err != nil {
		return 0, errors.New("connect: " + wire.Cause(err))
	}
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	defer conn.Close() //nolint:errcheck // nothing is written any more
	target := s.base + "/averages/stream?provider=yfinance&symbols=" + newEvent("STREAM", 0).symbol
	if _, err := conn.Write(wire.Request("GET", target, nil, s.run.clients.next())); err != nil {
		return 0, errors.New("send: " + wire.Cause(err))
	}
	resp, err := http.ReadResponse(bufio.NewReaderSize(conn, 1<<10), nil)
	s.mu.Lock()
	s.asked++
	s.mu.Unlock()
	if err != nil {
		return 0, errors.New("no answer: " + wire.Cause(err))
	}
	defer resp.Body.Close() //nolint:errcheck // closed with its connection
	seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
	switch {
	case resp.StatusCode == http.StatusOK:
		return 0, s.read(ctx, resp)
	case resp.StatusCode != http.StatusServiceUnavailable || seconds == 0:
		return 0, fmt.Errorf("status %d, Retry-After %q", resp.StatusCode, resp.Header.Get("Retry-After"))
	}
	s.mu.Lock()
	s.refused++
	s.mu.Unlock()
	return time.Duration(seconds) * time.Second, nil
}

// read reads the states of a stream until it ends, as each does after STREAM_DURATION, or ctx ends.
func (s *streams) read(ctx context.Context, resp *http.Response) error {
	l := &listener{}
	s.mu.Lock()
	s.open[l] = true
	s.mu.Unlock()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		data, found := bytes.CutPrefix(lines.Bytes(), []byte("data: "))
		if !found {
			continue
		}
		var state struct {
			AsOf time.Time `json:"as_of"`
		}
		if err := json.Unmarshal(data, &state); err != nil {
			return fmt.Errorf("a state: %w", err)
		}
		now := time.Now()
		s.mu.Lock()
		if !l.asOf.IsZero() { // the first one is as old as it is
			s.took = append(s.took, now.Sub(s.sent[state.AsOf.UTC()]))
		}
		l.asOf = state.AsOf
		s.mu.Unlock()
		s.seen()
	}
	select {
	case <-ctx.Done(): // the client has hung up
		return nil
	default:
	}
	s.mu.Lock()
	delete(s.open, l)
	s.mu.Unlock()
	if err := lines.Err(); err != nil {
		return errors.New("a stream broke: " + wire.Cause(err))
	}
	return nil
}

// behind returns how many streams have an older state than that.
func (s *streams) behind(asOf time.Time) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for l := range s.open {
		if !l.asOf.Equal(asOf) {
			n++
		}
	}
	return n
}

// report prints the line of the streams, whose clients have gone.
func (s *streams) report(ctx context.Context, took, used time.Duration) error {
	m := s.run
	recovered, wrong := s.recovery(ctx)
	peak, err := m.metric(ctx, "compute-ma", "process_resident_memory_peak_bytes")
	if err != nil {
		return err
	}
	peak /= 1 << 20
	slices.Sort(s.took)
	var p99 time.Duration
	if len(s.took) > 0 {
		p99 = s.took[len(s.took)*99/100]
	}
	rate := func(n int) string { return number(float64(n) / took.Seconds()) }
	m.say("| streams | %d at a time | %d at a time | %s/s | %.1f | %d at a time | %s/s | %s (a change) | %s MiB | %s | %.1f |", permittedStreams, streamsAsked,
		rate(s.asked), float64(streamsAsked)/permittedStreams, len(s.open), rate(s.refused), rounded(p99), number(peak), rounded(recovered), used.Seconds()/took.Seconds())
	if len(s.open) != permittedStreams {
		wrong = errors.Join(wrong, fmt.Errorf("%d streams were admitted, not %d", len(s.open), permittedStreams))
	}
	for _, what := range slices.Sorted(maps.Keys(s.other)) {
		wrong = errors.Join(wrong, fmt.Errorf("%d times: %s", s.other[what], what))
	}
	return errors.Join(wrong, withinBounds("compute-ma", p99, recovered, peak))
}

// recovery asks for streams until one is admitted and has its first state.
func (s *streams) recovery(ctx context.Context) (time.Duration, error) {
	for began := time.Now(); ctx.Err() == nil; {
		once, cancel := context.WithTimeout(ctx, time.Second)
		next := newStreams(s.run)
		next.seen = cancel
		_, _ = next.ask(once) // ends with the context
		cancel()
		switch took := time.Since(began); {
		case len(next.open) > 0 && next.behind(time.Time{}) > 0:
			return took, nil
		case took > time.Minute:
			return took, errors.New("it does not recover")
		}
	}
	return 0, context.Cause(ctx)
}
