// Package ids makes the IDs of jobs and backfills.
package ids

import (
	"fmt"
	"strings"

	"github.com/google/uuid"
)

// Kind is the prefix of the IDs of one kind of thing.
type Kind string

// The kinds of things that have IDs.
const (
	Job      Kind = "poll_"
	Backfill Kind = "bf_"
)

// New returns the ID of a new thing. IDs of a kind sort by the time at which they were made.
func (k Kind) New() (string, error) {
	u, err := uuid.NewV7()
	if err != nil {
		return "", fmt.Errorf("make id: %w", err)
	}
	return string(k) + strings.ReplaceAll(u.String(), "-", ""), nil
}

// Is reports whether text has the form of such an ID. Any other text names nothing and must not reach the database, which rejects some
// texts, such as those with a NUL.
func (k Kind) Is(text string) bool {
	digits, ok := strings.CutPrefix(text, string(k))
	return ok && len(digits) == 32 && strings.Trim(digits, "0123456789abcdef") == ""
}
