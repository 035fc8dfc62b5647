package api

import (
	"net/http"
	"time"

	"marketdata/shared/crowd"
	"marketdata/shared/problem"
)

// together is how many requests of an operation are worked on at a time. More would not be faster, because they share four connections to
// Postgres: they would only use memory, and each would take as long as all of them.
const together = 8

// patience is how long the others wait for their turn.
const patience = time.Second / 2

// inTurn gives requests without a body their turns. A turn is for the time until the answer begins: a client that reads slowly has none.
func inTurn(c crowd.Crowd, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := c.Enter(r.Context()); err != nil {
			problem.Write(w, r, err)
			return
		}
		t := &turn{ResponseWriter: w, crowd: c}
		defer t.end()
		next.ServeHTTP(t, r)
	})
}

// turn ends when the answer begins.
type turn struct {
	http.ResponseWriter
	crowd crowd.Crowd
	ended bool
}

func (t *turn) end() {
	if !t.ended {
		t.ended = true
		t.crowd.Leave()
	}
}

// WriteHeader ends the turn.
func (t *turn) WriteHeader(status int) {
	t.end()
	t.ResponseWriter.WriteHeader(status)
}

// Write ends the turn.
func (t *turn) Write(b []byte) (int, error) {
	t.end()
	return t.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (t *turn) Unwrap() http.ResponseWriter { return t.ResponseWriter }
