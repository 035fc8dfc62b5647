package stream

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"time"

	"marketdata/functions/compute-ma/internal/series"
	"marketdata/functions/compute-ma/internal/store"
	"marketdata/shared/fault"
)

const (
	// pause is the time between two reads of the states. It is more than a quarter of a second, so that a client gets at most four states
	// of a series in any second, and leaves the rest of half a second to the query and to writing.
	pause = 270 * time.Millisecond
	// refusedFor is the Retry-After of a client that is refused.
	refusedFor = 5 * time.Second
)

// Comments for clients: lines that begin with a colon.
const (
	notReadable = ": the states cannot be read at the moment; the stream goes on by itself\n\n"
	readable    = ": the states can be read again\n\n"
)

// Reader reads the states that have changed. [store.Reader] is one.
type Reader interface {
	States(ctx context.Context, keys []series.Key, versions []string) ([]series.State, error)
}

// hub reads the states of all series that any client watches, in one query at a time, and hands each change to the clients that watch it.
// Without clients it reads nothing. Safe for concurrent use.
type hub struct {
	reads   Reader
	most    int // clients
	log     *slog.Logger
	metrics metrics

	mu      sync.Mutex
	series  map[series.Key]*watched
	clients map[*client]struct{}
	running bool      // whether run is
	next    time.Time // the next read is not before
	failing bool      // the last read failed
}

// watched is a series that clients watch. Its event is encoded once, for all of them.
type watched struct {
	key     series.Key
	version string
	data    []byte // the newest state as JSON; nil before the first point
	event   []byte // the newest state as an event
	watches map[*watch]struct{}
}

// watch is the interest of one client in one series.
type watch struct {
	series *watched
	client *client
	due    bool // in the client's list of what it has not been sent
}

// client is one connection. A slow one has at most one state due of each series: the newest.
type client struct {
	watches []watch
	due     []*watch
	comment string        // due
	wake    chan struct{} // has room for one signal
}

func newHub(reads Reader, most int, log *slog.Logger, m metrics) *hub {
	return &hub{reads: reads, most: most, log: log, metrics: m, series: map[series.Key]*watched{}, clients: map[*client]struct{}{}}
}

// join returns a client of these series, without duplicates. It gets their states with the next read. If there are too many clients, the
// error is Unavailable with code "overloaded".
func (h *hub) join(keys []series.Key) (*client, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.clients) >= h.most {
		h.metrics.refused.Inc()
		return nil, fault.New(fault.Unavailable, fault.CodeOverloaded, "this replica already streams to %d clients", h.most).After(refusedFor)
	}
	c := &client{watches: make([]watch, len(keys)), wake: make(chan struct{}, 1)}
	for i, k := range keys {
		s := h.series[k]
		if s == nil {
			s = &watched{key: k, watches: map[*watch]struct{}{}}
			h.series[k] = s
		}
		w := &c.watches[i]
		w.series, w.client = s, c
		s.watches[w] = struct{}{}
		if s.event != nil {
			w.becomeDue()
		}
	}
	if h.failing {
		c.comment = notReadable
		c.signal()
	}
	h.clients[c] = struct{}{}
	h.metrics.clients.Inc()
	if !h.running {
		h.running = true
		go h.run()
	}
	return c, nil
}

func (h *hub) leave(c *client) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range c.watches {
		w := &c.watches[i]
		if delete(w.series.watches, w); len(w.series.watches) == 0 {
			delete(h.series, w.series.key)
		}
	}
	delete(h.clients, c)
	h.metrics.clients.Dec()
}

func (w *watch) becomeDue() {
	if !w.due {
		w.due = true
		w.client.due = append(w.client.due, w)
	}
}

func (c *client) signal() {
	select {
	case c.wake <- struct{}{}:
	default: // it has one already
	}
}

// take appends what is due to b, and returns how many states that are.
func (h *hub) take(c *client, b *bytes.Buffer) (states int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	b.WriteString(c.comment)
	for _, w := range c.due {
		b.Write(w.series.event)
		w.due = false
	}
	states, c.due, c.comment = len(c.due), c.due[:0], ""
	return states
}

// run reads until there is no client.
func (h *hub) run() {
	for {
		h.mu.Lock()
		wait := time.Until(h.next)
		h.mu.Unlock()
		time.Sleep(wait)
		keys, versions := h.watched()
		if len(keys) == 0 {
			return
		}
		began := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), store.ReadTimeout)
		states, err := h.reads.States(ctx, keys, versions)
		cancel()
		took := time.Since(began)
		h.metrics.reads.Update(took.Seconds())
		h.deliver(states, err, time.Now().Add(max(pause, took))) // a slow database is not asked all the time
	}
}

// watched returns the series to read, with the versions that the hub has. If there are none, run ends.
func (h *hub) watched() (keys []series.Key, versions []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for k, s := range h.series {
		keys, versions = append(keys, k), append(versions, s.version)
	}
	h.running = len(keys) > 0
	return keys, versions
}

// deliver makes the states due at their clients, and wakes every client that has something due.
func (h *hub) deliver(states []series.State, err error, next time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.next = next
	h.noteFailure(err)
	for _, state := range states {
		s := h.series[state.Key]
		if s == nil { // its last client has gone
			continue
		}
		s.version = state.Version
		data, event, err := encode(state)
		if err != nil {
			h.log.Error("state cannot be sent", "err", err)
			continue
		}
		if bytes.Equal(data, s.data) { // written anew, as by a rebuild
			continue
		}
		s.data, s.event = data, event
		for w := range s.watches {
			w.becomeDue()
		}
	}
	for c := range h.clients {
		if len(c.due) > 0 {
			c.signal()
		}
	}
}

// noteFailure tells log and clients when reads begin to fail, and when they succeed again.
func (h *hub) noteFailure(err error) {
	if (err != nil) == h.failing {
		return
	}
	h.failing = err != nil
	comment := readable
	if h.failing {
		comment = notReadable
		h.log.Warn("states for streams cannot be read", "err", err)
	} else {
		h.log.Info("states for streams can be read again")
	}
	for c := range h.clients {
		c.comment = comment
		c.signal()
	}
}
