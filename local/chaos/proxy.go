package chaos

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// proxy forwards TCP connections to the first of its targets that accepts them, in turns. It can delay, cut and hold them.
type proxy struct {
	addr     string
	listener net.Listener
	turn     atomic.Uint64
	delay    atomic.Int64 // nanoseconds before each chunk

	mu      sync.Mutex
	targets []string
	cut     bool
	links   map[*link]bool
	open    chan struct{} // closed while new connections forward
}

// link is a connection of a client, and ours to a target.
type link struct {
	client, server net.Conn
	open           chan struct{} // closed while bytes pass; guarded by proxy.mu
}

func (l *link) close() {
	_ = l.client.Close() // whether it was open does not matter
	_ = l.server.Close()
}

func newProxy(ctx context.Context, targets ...string) (*proxy, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	p := &proxy{addr: l.Addr().String(), listener: l, targets: targets, links: map[*link]bool{}, open: closed()}
	go p.accept()
	return p, nil
}

func closed() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return // closed
		}
		go p.forward(client)
	}
}

func (p *proxy) forward(client net.Conn) {
	server, err := p.dial()
	p.mu.Lock()
	if err != nil || p.cut {
		p.mu.Unlock()
		if server != nil {
			_ = server.Close() // nothing was sent
		}
		_ = client.Close() // refused
		return
	}
	l := &link{client: client, server: server, open: p.open}
	p.links[l] = true
	p.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { p.pipe(l, server, client) })
	both.Go(func() { p.pipe(l, client, server) })
	both.Wait()
	p.mu.Lock()
	delete(p.links, l)
	p.mu.Unlock()
}

func (p *proxy) dial() (conn net.Conn, err error) {
	p.mu.Lock()
	targets := p.targets
	p.mu.Unlock()
	first := int(p.turn.Add(1) % uint64(len(targets))) //nolint:gosec // less than the number of targets
	for i := range targets {
		if conn, err = (&net.Dialer{Timeout: time.Second}).Dial("tcp", targets[(first+i)%len(targets)]); err == nil {
			return conn, nil
		}
	}
	return nil, err
}

// pipe copies one direction. A half that ends closes both, as the loss of a peer does.
func (p *proxy) pipe(l *link, to io.Writer, from io.Reader) {
	defer l.close()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if d := time.Duration(p.delay.Load()); d > 0 && n > 0 {
			time.Sleep(d)
		}
		p.mu.Lock()
		open := l.open
		p.mu.Unlock()
		<-open
		if _, werr := to.Write(buffer[:n]); err != nil || werr != nil {
			return
		}
	}
}

// lateBy is how late each chunk is while connections are slow.
const lateBy = 300 * time.Millisecond

// fail begins a fault, and returns what ends it.
func (p *proxy) fail(kind Kind) (end func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch kind {
	case Slow:
		p.delay.Store(int64(lateBy))
		return func() { p.delay.Store(0) }
	case Cut:
		p.cut = true
		p.dropLocked()
		return func() { p.mu.Lock(); p.cut = false; p.mu.Unlock() }
	case Hang, Strand:
		held := make(chan struct{})
		for l := range p.links {
			l.open = held
		}
		if kind == Hang {
			p.open = held
			return func() { p.mu.Lock(); p.open = closed(); p.mu.Unlock(); close(held) }
		}
		stranded := make([]*link, 0, len(p.links))
		for l := range p.links {
			stranded = append(stranded, l)
		}
		return func() { // the peer is long gone
			for _, l := range stranded {
				l.close()
			}
			close(held)
		}
	default:
		panic("proxy: no fault of a connection: " + kind)
	}
}

// redirect makes new connections go elsewhere, and cuts the others.
func (p *proxy) redirect(targets ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.targets = targets
	p.dropLocked()
}

func (p *proxy) dropLocked() {
	for l := range p.links {
		l.close()
	}
}

func (p *proxy) close() {
	_ = p.listener.Close() // it accepts no more
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dropLocked()
}
