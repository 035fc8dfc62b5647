package balance

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// closedBody fails after its end, as a body of net/http does that was closed in between.
type closedBody struct{ io.Reader }

func (b *closedBody) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err == io.EOF {
		b.Reader = failing{}
	}
	return n, err
}

func (*closedBody) Close() error { return nil }

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("http: invalid Read on closed Body") }

func TestTheEndOfABodyStays(t *testing.T) {
	t.Parallel()
	out := &http.Request{Body: &closedBody{strings.NewReader("body")}}
	KeepEnd(out)
	for _, want := range []string{"body", "", ""} {
		got, err := io.ReadAll(out.Body)
		require.NoError(t, err)
		require.Equal(t, want, string(got))
	}
	for _, none := range []io.ReadCloser{nil, http.NoBody} {
		out = &http.Request{Body: none}
		KeepEnd(out)
		require.Equal(t, none, out.Body, "a request without a body has none")
	}
}
