package ratelimit

import (
	"bytes"
	"cmp"
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"marketdata/shared/redisclient"
)

// network is between a client and its Redis, which it can make unreachable or mute.
type network struct {
	addr   string
	mu     sync.Mutex
	conns  map[net.Conn]bool
	down   bool          // new connections are refused, and open ones were closed
	mute   bool          // writes are lost
	muted  chan struct{} // receives one value for each lost write
	writes atomic.Int64
	pool   int // most connections of a client; 0: unlimited

	slowDial time.Duration                         // time to open a connection
	slow     func(conn, write int64) time.Duration // delay of a write; nil: none
	opened   atomic.Int64
	// How long the last attempt to open a connection, the last read and the last write may take.
	dialLeft, readLeft, writeLeft atomic.Int64

	breaks func() // called by a write, which then closes its connection; nil: none
}

// newNetwork starts a Redis whose clock the test controls, and returns a client that reaches it through the network.
func newNetwork(t *testing.T) (server *miniredis.Miniredis, n *network, client *redis.Client, advance func(time.Duration)) {
	t.Helper()
	server = miniredis.RunT(t)
	n = &network{addr: server.Addr(), conns: map[net.Conn]bool{}, muted: make(chan struct{}, 1000)}
	return server, n, n.client(t), clockOf(server)
}

// client returns the client of one replica, with production settings.
func (n *network) client(t *testing.T) *redis.Client {
	t.Helper()
	opened, err := redisclient.Open("redis://" + n.addr)
	require.NoError(t, err)
	options := *opened.Options()
	require.NoError(t, opened.Close())
	options.Dialer = n.dial
	options.MaxRetries = -1 // no retries; an open client's options have 0, which would mean the default of 3
	// After PoolSize failed dials, go-redis tries the server only once a second, for which no test waits.
	options.PoolSize = 10_000
	if n.pool > 0 {
		options.PoolSize = n.pool
	}
	client := redis.NewClient(&options)
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	return client
}

func (n *network) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	if n.slowDial > 0 {
		<-time.After(n.slowDial)
	}
	if at, ok := ctx.Deadline(); ok {
		n.dialLeft.Store(int64(time.Until(at)))
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.down {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
	inner, err := (&net.Dialer{}).DialContext(ctx, "tcp", n.addr)
	if err != nil {
		return nil, err
	}
	n.conns[inner] = true
	return &conn{Conn: inner, n: n, id: n.opened.Add(1)}, nil
}

func (n *network) set(down, mute bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.down, n.mute = down, mute
	if down {
		for c := range n.conns {
			_ = c.Close()
			delete(n.conns, c)
		}
	}
}

// cut closes all connections. New ones are accepted.
func (n *network) cut() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for c := range n.conns {
		_ = c.Close()
		delete(n.conns, c)
	}
}

type conn struct {
	net.Conn
	n      *network
	id     int64 // from 1
	writes int64
}

func (c *conn) SetReadDeadline(at time.Time) error {
	c.n.readLeft.Store(int64(time.Until(at)))
	return c.Conn.SetReadDeadline(at)
}

func (c *conn) SetWriteDeadline(at time.Time) error {
	c.n.writeLeft.Store(int64(time.Until(at)))
	return c.Conn.SetWriteDeadline(at)
}

func (c *conn) Write(b []byte) (int, error) {
	c.n.writes.Add(1)
	c.n.mu.Lock()
	mute := c.n.mute
	c.n.mu.Unlock()
	if mute {
		c.n.muted <- struct{}{}
		return len(b), nil
	}
	if c.n.breaks != nil {
		c.n.breaks()
		return 0, cmp.Or(c.Close(), io.ErrUnexpectedEOF)
	}
	c.writes++
	if c.n.slow != nil {
		if wait := c.n.slow(c.id, c.writes); wait > 0 {
			late := bytes.Clone(b)
			time.AfterFunc(wait, func() { _, _ = c.Conn.Write(late) })
			return len(b), nil
		}
	}
	return c.Conn.Write(b)
}
