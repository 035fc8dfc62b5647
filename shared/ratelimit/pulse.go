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

// pulse tells a Redis that is silent from one that is busy. A single late answer proves nothing: this process may have
// been starved of CPU, or the answer may stand in a queue. Redis is silent once no connection of the limiter has received
// anything for the timeout, and a second look half as long finds nothing either.
type pulse struct {
	timeout  time.Duration
	patience time.Duration // how long a request waits for a connection or an answer while Redis answers others
	heard    atomic.Int64  // when a connection last received something, in nanoseconds since start
	beats    atomic.Int64  // how often one did
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

// watch makes connections that keep the pulse.
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

// watchedConn is used by one goroutine at a time, as the pool hands it out. Its read deadline is a time to look, not to
// give up: a read goes on while Redis has a pulse, within the patience.
type watchedConn struct {
	net.Conn
	pulse  *pulse
	asked  time.Time // when the answer that is read now was asked for
	looked bool      // the second look is under way
}

// watchedSocket lets the pool see whether an idle connection was closed, which it looks up in the socket.
type watchedSocket struct {
	*watchedConn
	syscall.Conn
}

// SetReadDeadline begins the wait for an answer.
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

// goOn reports whether to read again after the deadline, which it moves.
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
