package service

import (
	"container/list"
	"errors"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"marketdata/shared/fault"
)

type boundedConn struct {
	net.Conn
	until time.Time // the write deadline that is set
	head  []byte    // was read before the connection had a seat

	listener *boundedListener
	lost     atomic.Bool   // whether it has lost its seat while the body of its request arrived
	seated   bool          // these belong to the listener's mutex
	busy     bool          // whether the server works on a request, or reads its body
	begun    bool          // whether the next header has begun to arrive
	asks     bool          // whether a header has arrived that the server has not read
	place    *list.Element // in quiet; nil: its client waits for the server, or it has no seat
	turn     chan struct{} // closed when it gets the seat that it waits for
	since    time.Time     // when it turned quiet
}

// Read gives the head first.
func (c *boundedConn) Read(b []byte) (int, error) {
	if len(c.head) > 0 {
		n := copy(b, c.head)
		c.head = c.head[n:]
		return n, nil
	}
	// While a handler works, net/http reads a single byte, to see its client hang up. All else it reads is a header or a body.
	if len(b) > 1 {
		c.listener.listen(c)
	} else {
		c.listener.work(c)
	}
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.listener.hear(c)
	}
	if err != nil && c.lost.Load() {
		err = fault.Wrap(err, fault.Unavailable, fault.CodeOverloaded, "the body took too long while other requests waited").After(time.Second)
	}
	return n, err
}

// SetWriteDeadline notes the deadline: http.Server removes it after each answer.
func (c *boundedConn) SetWriteDeadline(t time.Time) error {
	c.until = t
	return c.Conn.SetWriteDeadline(t)
}

const (
	writePatience = 20 * time.Second // for a client to take writeChunk bytes
	writeChunk    = 256 << 10
)

// Write writes b in chunks, each with its own deadline.
func (c *boundedConn) Write(b []byte) (written int, err error) {
	for {
		// Most answers find a deadline that is far enough away: setting one costs more than reading the clock.
		if now := time.Now(); c.until.Sub(now) < writePatience {
			if err := c.SetWriteDeadline(now.Add(2 * writePatience)); err != nil {
				return written, err
			}
		}
		n, err := c.Conn.Write(b[:min(len(b), writeChunk)])
		written += n
		if b = b[n:]; err != nil || len(b) == 0 {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				c.dropUnsent()
			}
			return written, err
		}
	}
}

// dropUnsent makes the kernel forget what the client did not take, up to some megabytes, as soon as the connection closes.
func (c *boundedConn) dropUnsent() {
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // the connection is lost either way
	}
}

// CloseWrite lets net/http end a connection in order.
func (c *boundedConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// unread returns whether something has arrived that nobody has read.
func (c *boundedConn) unread() (arrived bool) {
	c.control(func(fd int) { arrived = hasUnread(fd) })
	return arrived
}

// hangUp ends the connection unless something has arrived that nobody has read. It does not wait, as Close does, until the goroutine that
// reads has its turn: the client learns of it at once, or it would send what is lost. The server closes the connection then.
func (c *boundedConn) hangUp() (done bool) {
	found := c.control(func(fd int) {
		if done = !hasUnread(fd); done {
			_ = syscall.Shutdown(fd, syscall.SHUT_RDWR) // if it fails, the client has closed it
		}
	})
	return done || !found && c.Conn.Close() == nil
}

// control calls f with the file descriptor. It returns false if there is none, or if it is closed.
func (c *boundedConn) control(f func(fd int)) bool {
	socket, ok := c.Conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := socket.SyscallConn()
	return err == nil && raw.Control(func(fd uintptr) { f(int(fd)) }) == nil
}

func hasUnread(fd int) bool {
	n, _, err := syscall.Recvfrom(fd, make([]byte, 1), syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	return err == nil && n > 0
}
