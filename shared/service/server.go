package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// Main runs a function until its end. If run fails, it prints the error to stderr and exits with 1.
func Main(function string, run func(ctx context.Context) error) {
	if err := run(context.Background()); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", function, err)
		os.Exit(1)
	}
}

// NewServer makes an HTTP/1 server that no client can hold up: a request must arrive within 30 s, and an idle connection is
// closed after two minutes. Serve it on a [Bounded] listener, which does the same for answers, and bounds connections. The answer to a
// request that has a body may stream for longer than that only if its handler calls http.ResponseController.SetReadDeadline with the
// zero time first.
func NewServer(h http.Handler, log *slog.Logger) *http.Server {
	var protocols http.Protocols
	protocols.SetHTTP1(true) // TLS, and HTTP/2 with it, end at the platform's proxy
	return &http.Server{
		Handler:           h,
		Protocols:         &protocols,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		ConnContext:       func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
		ConnState:         track,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

type connKey struct{} // context key of a request's net.Conn

// LimitSendBuffer limits what the kernel keeps of the answer to a request until the client takes it, to about the given number of
// bytes: by default it is up to 4 MiB, which a stream would fill with states that are old by the time the client reads them. It has no
// effect unless the server is one of [NewServer], on a [Bounded] listener.
func LimitSendBuffer(r *http.Request, bytes int) {
	if c, ok := r.Context().Value(connKey{}).(*boundedConn); ok {
		if tcp, ok := c.Conn.(*net.TCPConn); ok {
			_ = tcp.SetWriteBuffer(bytes / 2) // the kernel doubles it; if it fails, the connection fails
		}
	}
}

// Listen takes the function's port. Call it first: a port that is taken is known before anything is opened, and a client that
// connects while the function is still being put together waits a moment instead of being refused. For seats, see [Bounded].
func Listen(ctx context.Context, config Config, seats int) (net.Listener, error) {
	var l net.ListenConfig
	l.SetMultipathTCP(false) // no client uses it, and probing for it costs more than listen itself
	listener, err := l.Listen(ctx, "tcp", net.JoinHostPort(config.Host, fmt.Sprint(config.Port)))
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return opened{newBounded(listener, seats, mostReserved, mostWaiting), thisMoment()}, nil
}

// opened is the listener of a function, and when it was opened.
type opened struct {
	*boundedListener
	moment
}

// Run serves on listener until SIGTERM or SIGINT comes or ctx ends, then stops accepting, lets requests in flight finish, and
// returns nil. Requests that are not done shortly before ShutdownTimeout are cancelled and cut: what follows (see [Service.Close])
// shares the same budget. It logs the address it listens on.
func (s *Service) Run(ctx context.Context, listener net.Listener) error {
	requests, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	server := NewServer(s.Handler(), s.Log)
	server.MaxHeaderBytes = s.MaxHeaderBytes
	server.BaseContext = func(net.Listener) context.Context { return requests }
	if l, ok := listener.(opened); ok {
		s.observeStart(l.moment)
		l.refused = s.observe.turnAway
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.stopAtTheEnd(ctx, server, listener.Addr(), cancel)
	}()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve: %w", err)
	}
	<-ended
	return nil
}

// stopAtTheEnd waits for the end and shuts the server down. What it does before that takes a while on a process that has just
// begun, so it does it beside the first request; until then a signal ends the process at once.
func (s *Service) stopAtTheEnd(ctx context.Context, server *http.Server, addr net.Addr, cancelRequests func()) {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	s.Log.Info("listening", "addr", addr.String())
	<-ctx.Done()
	close(s.leaving)
	if s.config.ShutdownDelay > 0 {
		s.Log.Info("still serving before shutdown", "delay_ms", s.config.ShutdownDelay.Milliseconds())
		time.Sleep(s.config.ShutdownDelay)
	}
	s.deadline = time.Now().Add(s.config.ShutdownTimeout)
	close(s.stopping)
	reserve := min(s.config.ShutdownTimeout/5, time.Second) // for what is closed after the server
	end, cancel := context.WithDeadline(context.WithoutCancel(ctx), s.deadline.Add(-reserve))
	defer cancel()
	if err := server.Shutdown(end); err != nil {
		s.Log.Warn("requests in flight are cut off: SHUTDOWN_TIMEOUT is over", "err", err)
		cancelRequests()
		_ = server.Close() // the listener is closed, and what remains is cut
	}
	s.observe.routine.flush()
	s.observe.refused.flush()
	s.Log.Info("stopped")
}

// Stopping is closed when the function is told to stop: long work in flight should come to its end then.
func (s *Service) Stopping() <-chan struct{} { return s.stopping }

// Left is what remains of ShutdownTimeout: all of it before the stop, never less than 0.
func (s *Service) Left() time.Duration {
	select {
	case <-s.stopping:
		return max(time.Until(s.deadline), 0)
	default:
		return s.config.ShutdownTimeout
	}
}

// Close runs f, which closes something that the server used, and waits for it no longer than [Service.Left] and a moment:
// something that hangs does not keep the process from ending.
func (s *Service) Close(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	timer := time.NewTimer(s.Left() + 100*time.Millisecond)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		s.Log.Warn("still closing: SHUTDOWN_TIMEOUT is over")
	}
}
