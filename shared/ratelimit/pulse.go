package ratelimit

import (
	"context"
	"errors"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// pulse distinguishes a silent Redis from a busy one. A single late reply proves nothing: this process may have been starved of
// CPU, or the reply may be queued. Redis is silent if no connection of the limiter has received anything for the timeout, and
// none does in a second wait of half that time.
type pulse struct {
	timeout  time.Duration
	patience time.Duration // how long a request waits for a connection or a reply while Redis answers others
	heard    atomic.Int64  // when a connection last received something, in nanoseconds since start
	beats    atomic.Int64  // how often that happened
}

var processStart = time.Now()

func (p *pulse) beat() {
	p.heard.Store(int64(time.Since(processStart)))
	p.beats.Add(1)
}

// alive reports whether Redis sent anything within the timeout.
func (p *pulse) alive() bool {
	heard := p.heard.Load()
	return heard != 0 && time.Since(processStart)-time.Duration(heard) < p.timeout
}

type dialFunc = func(ctx context.Context, network, addr string) (net.Conn, error)

// watch returns a dialer whose connections update the pulse.
func (p *pulse) watch(dial dialFunc) dialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		inner, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		c := &watchedConn{Conn: inner, pulse: p}
		if raw, ok := inner.(syscall.Conn); ok {
			return &watchedSocket{c, raw}, nil
		}
		return c, nil
	}
}

// watchedConn is used by one goroutine at a time, as the pool hands it out. At its read deadline it checks the pulse: the read
// continues while Redis has one, within the patience.
type watchedConn struct {
	net.Conn
	pulse  *pulse
	asked  time.Time // when the wait for the current reply began
	looked bool      // the second wait has begun
}

// watchedSocket exposes the socket, in which the pool looks whether an idle connection was closed.
type watchedSocket struct {
	*watchedConn
	syscall.Conn
}

// SetReadDeadline begins the wait for a reply.
func (c *watchedConn) SetReadDeadline(t time.Time) error {
	c.asked, c.looked = time.Now(), false
	return c.Conn.SetReadDeadline(t)
}

// Read waits for as long as Redis has a pulse.
func (c *watchedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	for n == 0 && errors.Is(err, os.ErrDeadlineExceeded) && c.goOn() {
		n, err = c.Conn.Read(b)
	}
	if n > 0 {
		c.pulse.beat()
	}
	return n, err
}

// goOn reports whether to read again after the deadline. If so, it extends the deadline.
func (c *watchedConn) goOn() bool {
	now, wait := time.Now(), c.pulse.timeout
	switch {
	case now.Sub(c.asked) >= c.pulse.patience:
		return false
	case c.pulse.alive():
		c.looked = false
	case !c.looked:
		c.looked, wait = true, wait/2
	default:
		return false
	}
	return c.Conn.SetReadDeadline(now.Add(wait)) == nil
}
