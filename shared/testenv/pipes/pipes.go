// Package pipes has connections in memory, for tests with the fake clock of synctest, where a socket would block for good.
package pipes

import "net"

// Listener accepts the other ends of what [Listener.Dial] returns, until it is closed as a channel. A connection holds nothing that is not
// read. Safe for concurrent use.
type Listener chan net.Conn

// New returns a listener.
func New() Listener { return make(Listener) }

// Dial returns the client's end of a new connection, once it is accepted.
func (l Listener) Dial() net.Conn {
	client, end := net.Pipe()
	l <- end
	return client
}

// Accept implements [net.Listener]. After the end the error is [net.ErrClosed].
func (l Listener) Accept() (net.Conn, error) {
	c, open := <-l
	if !open {
		return nil, net.ErrClosed
	}
	return c, nil
}

// Close implements [net.Listener]. It does nothing, so that the test, not the server, ends the listener.
func (l Listener) Close() error { return nil }

// Addr implements [net.Listener].
func (l Listener) Addr() net.Addr { return &net.TCPAddr{} }
