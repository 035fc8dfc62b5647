package balance

import (
	"io"
	"net/http"
)

// KeepEnd makes the body of a request that a proxy sends remember its end. After the last byte the transport asks for more. By then
// net/http may have closed the body, because the response has begun: the transport would take that for a failure, close its connection, and
// cut the response short.
func KeepEnd(out *http.Request) {
	if out.Body != nil && out.Body != http.NoBody {
		out.Body = &endingBody{ReadCloser: out.Body}
	}
}

// endingBody is a body whose end stays the end, also once it is closed.
type endingBody struct {
	io.ReadCloser
	ended bool
}

// Read reads from the body until its end.
func (b *endingBody) Read(p []byte) (n int, err error) {
	if b.ended {
		return 0, io.EOF
	}
	n, err = b.ReadCloser.Read(p)
	b.ended = err == io.EOF
	return n, err
}
