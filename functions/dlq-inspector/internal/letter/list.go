package letter

import (
	"time"
	"unicode"

	"github.com/google/uuid"
)

// Filter selects letters. Zero members select all.
type Filter struct {
	Status      Status     `json:"status,omitempty"`
	Fingerprint string     `json:"fingerprint,omitempty"`
	Symbol      string     `json:"symbol,omitempty"` // in any case
	Topic       string     `json:"topic,omitempty"`
	Q           string     `json:"q,omitempty"`           // text in code, reason, symbol, source, id or value, in any case; see Short
	SameKeyAs   *uuid.UUID `json:"same_key_as,omitempty"` // a letter; only of lists
	Since       *time.Time `json:"since,omitempty"`
	Until       *time.Time `json:"until,omitempty"`

	IDs []uuid.UUID `json:"ids,omitempty"` // of a bulk replay or discard, sorted: these letters and no others; empty: all
}

// Short reports whether Q is too short for the index of the search, which needs three letters or digits in a row. Such a text is a
// symbol.
func (f Filter) Short() bool {
	run := 0
	for _, c := range f.Q {
		switch {
		case c > unicode.MaxASCII: // at least two bytes, which the index has with three digits each
			return false
		case unicode.IsLetter(c), unicode.IsDigit(c):
			if run++; run == 3 {
				return false
			}
		default:
			run = 0
		}
	}
	return f.Q != ""
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

// ListPage is a page of a list.
type ListPage struct {
	Letters  []Listed
	Next     *ListKey   // the next page has the letters after it; nil: this is the last page
	Searched *time.Time // last failure of the last letter that was searched, if the page ends there, with less letters than were asked for
	Values   bool       // whether Filter.Q was also looked for in the values
}

// PageOf returns the page of a list that was read with one letter more than limit.
func PageOf(all []Listed, limit int, values bool) ListPage {
	if len(all) <= limit {
		return ListPage{Letters: all, Values: values}
	}
	return ListPage{Letters: all[:limit], Next: &all[limit-1].Key, Values: values}
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
	Hours       []int64 // failures in each of the last 24 hours (UTC), the current one last
}

// GroupKey is a group's position in the list, which has the group with the most open letters first.
type GroupKey struct {
	Open, Letters int64
	Fingerprint   string
}
