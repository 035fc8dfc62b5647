package jobs

import (
	"fmt"
	"strings"

	"github.com/google/uuid"
)

const idPrefix = "poll_"

// NewID returns the ID of a new job. IDs sort by the time at which they were made.
func NewID() (string, error) {
	u, err := uuid.NewV7()
	if err != nil {
		return "", fmt.Errorf("make id: %w", err)
	}
	return idPrefix + strings.ReplaceAll(u.String(), "-", ""), nil
}

// IsID reports whether text has the form of a job's ID. Any other text names no job and must not reach the database, which rejects
// some texts, such as those with a NUL.
func IsID(text string) bool {
	digits, ok := strings.CutPrefix(text, idPrefix)
	return ok && len(digits) == 32 && strings.Trim(digits, "0123456789abcdef") == ""
}
