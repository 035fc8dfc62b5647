package letter

import (
	"time"

	"github.com/google/uuid"
)

// Filter selects letters. Zero members select all.
type Filter struct {
	Status      Status     `json:"status,omitempty"`
	Fingerprint string     `json:"fingerprint,omitempty"`
	Symbol      string     `json:"symbol,omitempty"` // in any case
	Topic       string     `json:"topic,omitempty"`
	Q           string     `json:"q,omitempty"` // text in code, reason, symbol, source or id, in any case
	Since       *time.Time `json:"since,omitempty"`
	Until       *time.Time `json:"until,omitempty"`
}

// Listed is a letter in a list.
type Listed struct {
	Stored

	Key ListKey
}

// ListKey is a letter's position in the list, which has the newest failure first.
type ListKey struct {
	At int64 // last_failed_at in microseconds since 1970; the greatest and the least mean infinity
	ID uuid.UUID
}

// Group is the letters of one cause.
type Group struct {
	Fingerprint string
	Code        string
	Reason      string // of one letter of the group
	Letters     int64
	Open        int64
	First       time.Time
	Last        time.Time
}

// GroupKey is a group's position in the list, which has the group with the most open letters first.
type GroupKey struct {
	Open, Letters int64
	Fingerprint   string
}
