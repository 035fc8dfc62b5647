package service

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"slices"
	"time"

	"marketdata/shared/fault"
	"marketdata/shared/problem"
	"marketdata/shared/request"
)

const (
	headerPatience   = 5 * time.Second // for the header of a request to arrive
	farewellPatience = time.Second     // for a client to take a refusal and send what is left of its request, or to hang up
	mostHead         = 4 << 10         // bytes of a header are read before the request has a seat
	mostSkipped      = 64 << 10        // bytes of a refused request's body are read
)

// await finds a seat for the next request of c, or refuses it.
func (l *boundedListener) await(c *boundedConn) {
	began := time.Now()
	end, err := c.readHead()
	if err != nil {
		_ = c.Conn.Close()
		<-l.waiting
		return
	}
	if l.findSeat(c) {
		<-l.waiting
		l.give(accepted{conn: c})
		return
	}
	l.refused(time.Since(began))
	// In a goroutine of its own, which takes a larger stack for that moment only: thousands wait.
	go func() {
		// A client that was refused may come back over the same connection, as to connect again would cost both sides more than the refusal,
		// unless others wait to be accepted.
		if c.refuse(end, len(l.waiting) == cap(l.waiting)) {
			go l.await(c)
		} else {
			<-l.waiting
		}
	}()
}

// urgent returns whether a request has a reserved seat: it asks how the function is, or it is a tick, by the looks of its header (see
// ingress.Delivery.IsTick), without which a crowd would keep jobs from running and the outbox from being published.
func urgent(head []byte) bool {
	line, header, _ := bytes.Cut(head, []byte(" HTTP/"))
	return quiet[string(line)] || string(line) == "POST /" &&
		(bytes.Contains(header, []byte(": dev.knative.sources.ping\r\n")) || bytes.Contains(header, []byte(": cron-function\r\n")))
}

// readHead reads the header of a request, or as much of it as is to be read here, and returns its length.
func (c *boundedConn) readHead() (end int, err error) {
	if err := c.Conn.SetReadDeadline(time.Now().Add(headerPatience)); err != nil {
		return 0, err
	}
	for searched := 0; ; {
		if i := bytes.Index(c.head[searched:], headEnd); i >= 0 {
			end = searched + i + len(headEnd)
			break
		}
		if len(c.head) >= mostHead {
			break
		}
		searched = max(len(c.head)-len(headEnd), 0)
		c.head = slices.Grow(c.head, 512)
		n, err := c.Conn.Read(c.head[len(c.head):min(cap(c.head), mostHead)])
		c.head = c.head[:len(c.head)+n]
		if errors.Is(err, os.ErrDeadlineExceeded) && len(c.head) == 0 && c.unread() { // it has begun to arrive while this goroutine waited for its turn
			err = c.Conn.SetReadDeadline(time.Now().Add(headerPatience))
		}
		if err != nil {
			return 0, err
		}
	}
	return end, c.Conn.SetReadDeadline(time.Time{}) // the server sets its own
}

var headEnd = []byte("\r\n\r\n")

// refuse answers a request that finds no seat, whose header ends there. It returns false if it has closed the connection.
func (c *boundedConn) refuse(end int, last bool) (open bool) {
	defer func() {
		if !open {
			_ = c.Conn.Close()
		}
	}()
	reader := bufio.NewReaderSize(bytes.NewReader(c.head[:end]), end)
	r, err := http.ReadRequest(reader)
	if err != nil || reader.Buffered() > 0 { // net/http finds an earlier end of the header
		r = &http.Request{Close: true} // whatever it is, there is no seat for it
	}
	// Nobody waits for a body whose client waits for us, or for one that is long.
	open = !last && !r.Close && r.ContentLength >= 0 && r.ContentLength <= mostSkipped && r.Header.Get("Expect") == ""
	answer := refusal(r, open)
	// The patience is the client's: it begins when all is ready, since a goroutine of a busy function may have to wait for its turn before.
	if c.Conn.SetDeadline(time.Now().Add(farewellPatience)) != nil {
		return false
	}
	if _, err := c.Conn.Write(answer); err != nil {
		return false
	}
	if !open { // to close it with something unread would reset it before the client has read the answer
		if c.CloseWrite() == nil {
			_, _ = io.Copy(io.Discard, c.Conn)
		}
		return false
	}
	body := min(int(r.ContentLength), len(c.head)-end)
	c.head = slices.Delete(c.head, 0, end+body)
	_, err = io.CopyN(io.Discard, c.Conn, r.ContentLength-int64(body))
	return err == nil
}

// refusal is the answer to a request that finds no seat.
func refusal(r *http.Request, open bool) []byte {
	_, state := request.Begin(r)
	p := problem.New(fault.New(fault.Unavailable, fault.CodeOverloaded, "too many requests are in flight").After(time.Second), state.ID)
	body, _ := json.Marshal(p) // text and numbers
	header := p.GetHeaders()
	header.Set("Content-Type", p.ContentType(""))
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("X-Request-Id", state.ID)
	answer := http.Response{
		StatusCode: p.Status, ProtoMajor: 1, ProtoMinor: 1, Header: header, Close: !open, Request: r,
		Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)),
	}
	var b bytes.Buffer
	_ = answer.Write(&b) // a buffer takes all
	return b.Bytes()
}
