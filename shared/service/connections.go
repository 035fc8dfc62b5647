package service

import (
	"container/list"
	"net"
	"net/http"
	"sync"
	"time"
)

// Seats is how many connections a function has. Each keeps some 30 KB alive while it carries a request: with ten thousand of them a function
// did little but collect garbage, and its container of 256 MiB would have been killed. Long answers need seats beyond these.
const Seats = 1024

const (
	mostReserved = 64    // seats for ticks, health checks and metrics: to kill a function because it is busy makes the others busier
	mostWaiting  = 10240 // connections without a seat, with some 5 KB each; the kernel holds those beyond them

	// seatPatience is how long a request waits for a seat. To refuse it at once would bring its client back at once.
	seatPatience = time.Second
	// leastQuiet is how long a connection must have been quiet before it loses its seat: when an answer has just left, the client's next request
	// is often on its way. It is no longer than seatPatience, so that silent connections never keep a request out.
	leastQuiet = time.Second
	// acceptors accept connections. Under load a goroutine has its turn only now and then, and what the kernel cannot keep until then comes back
	// after seconds.
	acceptors = 8
)

// Bounded bounds the connections of a server of [NewServer], in number and in patience.
//
// The server has so many seats. While they are taken, a new connection gets one only after the header of its request has arrived: a seat that
// becomes free, or that of a connection whose client has been silent for a second, or has taken that long for a header or a body. So neither
// slow clients nor idle ones keep others out. If there is none within a second, the answer is 503 overloaded. More than 10,240 connections
// without a seat are not accepted.
//
// Every connection gives up on a client that stops reading. The bound is on progress, not on the whole answer (as http.Server's WriteTimeout
// is): a long answer goes on for as long as the client takes 256 KiB within 20 s, and a stream that is silent for a while is not cut. A
// deadline that a handler sets itself counts instead, if it is at least 20 s away.
func Bounded(l net.Listener, seats int) net.Listener {
	return newBounded(l, seats, mostReserved, mostWaiting)
}

func newBounded(l net.Listener, seats, reserved, waiting int) *boundedListener {
	return &boundedListener{
		Listener: l, most: seats, reserved: reserved, waiting: make(chan struct{}, waiting),
		accepted: make(chan accepted), closed: make(chan struct{}), refused: func(time.Duration) {},
	}
}

// boundedListener has goroutines of its own from the first Accept until Close. Safe for concurrent use.
type boundedListener struct {
	net.Listener
	most, reserved int
	waiting        chan struct{} // has one for each connection that waits
	accepted       chan accepted
	opening        sync.Once
	closing        sync.Once
	closed         chan struct{}
	refused        func(waited time.Duration) // is told of each refusal

	mu    sync.Mutex
	seats int       // that are taken
	quiet list.List // of *boundedConn with seats whose clients have yet to send, the one that has been quiet for longest first
	line  list.List // of *boundedConn that wait for a seat
}

type accepted struct {
	conn *boundedConn
	err  error
}

// Accept gives the next connection that has a seat.
func (l *boundedListener) Accept() (net.Conn, error) {
	l.opening.Do(func() {
		for range acceptors {
			go l.acceptAll()
		}
	})
	select {
	case a := <-l.accepted:
		if a.err != nil {
			return nil, a.err
		}
		return a.conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close closes the listener, not its connections.
func (l *boundedListener) Close() error {
	l.closing.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

func (l *boundedListener) acceptAll() {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			if !l.give(accepted{err: err}) {
				return
			}
			continue // the server closes the listener unless the error passes
		}
		c := &boundedConn{Conn: conn, listener: l}
		if l.sitDown(c) {
			l.give(accepted{conn: c})
			continue
		}
		select {
		case l.waiting <- struct{}{}:
			go l.await(c)
		case <-l.closed:
			_ = conn.Close() // nothing was read
		}
	}
}

// give gives the server a connection or an error. It returns false if the listener is closed.
func (l *boundedListener) give(a accepted) bool {
	select {
	case l.accepted <- a:
		return true
	case <-l.closed:
		if a.conn != nil {
			_ = a.conn.Conn.Close() // its request was not begun
		}
		return false
	}
}

// sitDown gives c a seat if there is a free one, which then nobody waits for.
func (l *boundedListener) sitDown(c *boundedConn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.seats >= l.most {
		return false
	}
	l.seats++
	c.seated = true
	return true
}

// findSeat gives c, whose request has arrived, a seat: a free one, one that becomes free while it waits, or that of a connection whose
// client has yet to send.
func (l *boundedListener) findSeat(c *boundedConn) bool {
	most := l.most
	if urgent(c.head) {
		most += l.reserved
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.take(c, most) {
		return true
	}
	c.turn = make(chan struct{})
	place := l.line.PushBack(c)
	l.mu.Unlock()
	patience := time.NewTimer(seatPatience)
	defer patience.Stop()
	select {
	case <-c.turn:
	case <-patience.C:
	case <-l.closed:
	}
	l.mu.Lock()
	l.line.Remove(place)
	return c.seated || l.take(c, most)
}

// take gives c a seat if fewer than most are taken, or could be without quiet connections. mu is held.
func (l *boundedListener) take(c *boundedConn, most int) bool {
	for l.seats >= most {
		if !l.free() {
			return false
		}
	}
	l.seats++
	c.seated, c.asks = true, true
	return true
}

// pass gives seats that are free to those who have waited for longest. mu is held.
func (l *boundedListener) pass() {
	for e := l.line.Front(); e != nil && l.seats < l.most; e = l.line.Front() {
		c := l.line.Remove(e).(*boundedConn) //nolint:forcetypeassert // nothing else is in it
		l.seats++
		c.seated, c.asks = true, true
		close(c.turn)
	}
}

// free takes the seat of a connection whose client has yet to send a request, or the rest of one. mu is held.
func (l *boundedListener) free() bool {
	const tries = 16 // bounds the time; those beyond them have been quiet for less
	e := l.quiet.Front()
	for i := 0; i < tries && e != nil; i++ {
		c := e.Value.(*boundedConn) //nolint:forcetypeassert // nothing else is in it
		if time.Since(c.since) < leastQuiet {
			return false
		}
		if c.giveUp() {
			l.quiet.Remove(e)
			c.seated, c.place = false, nil
			l.seats--
			return true
		}
		e = e.Next()
	}
	return false
}

// giveUp ends what the server waits for, unless it has arrived. mu is held.
func (c *boundedConn) giveUp() bool {
	if !c.busy {
		return c.hangUp()
	}
	if c.unread() {
		return false
	}
	c.lost.Store(true)                          // the handler refuses the request
	_ = c.Conn.SetReadDeadline(time.Unix(1, 0)) // if it fails, so does reading
	return true
}

// track is the server's ConnState.
func track(conn net.Conn, state http.ConnState) {
	if c, ok := conn.(*boundedConn); ok {
		c.listener.track(c, state)
	}
}

func (l *boundedListener) track(c *boundedConn, state http.ConnState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !c.seated { // it made room for another one
		if state == http.StateIdle {
			_ = c.Conn.Close()
		}
		return
	}
	if c.place != nil {
		l.quiet.Remove(c.place)
		c.place = nil
	}
	c.busy = state == http.StateActive // the header has arrived
	switch state {
	case http.StateActive:
	case http.StateNew, http.StateIdle:
		if !c.asks {
			c.since, c.place = time.Now(), l.quiet.PushBack(c)
		}
	case http.StateHijacked, http.StateClosed:
		l.seats--
		l.pass()
	}
	c.asks, c.begun = false, false
}

// hear gives a quiet connection another second when its next header begins to arrive, but not for what follows: the server may need the time
// to read it, and its client must not take the time to send it.
func (l *boundedListener) hear(c *boundedConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.place != nil && !c.begun {
		c.begun, c.since = true, time.Now()
		l.quiet.MoveToBack(c.place)
	}
}

// listen notes that the server reads from c. From the first time on, the rest of a request has as much time as a header.
func (l *boundedListener) listen(c *boundedConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.seated && c.place == nil {
		c.begun, c.since, c.place = true, time.Now(), l.quiet.PushBack(c)
	}
}

// work notes that the request of c has arrived.
func (l *boundedListener) work(c *boundedConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.place != nil {
		l.quiet.Remove(c.place)
		c.place = nil
	}
}
