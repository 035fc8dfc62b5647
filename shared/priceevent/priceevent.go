// Package priceevent is the format of a price event: encode, decode, validate. It does no I/O.
//
// An event is a CloudEvent in binary mode on the Kafka topic price-events, with the symbol as key. Producers call [Encode],
// consumers [Decode]. Both sides apply the rules of [Observation.Validate], so that every event that is stored can be consumed.
package priceevent

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"

	"marketdata/shared/fault"
	"marketdata/shared/market"
	"marketdata/shared/timerange"
)

// Type is the CloudEvents type of a price event.
const Type = "marketdata.price.observed.v1"

// MaxAhead is how far a timestamp may be ahead of our clock.
const MaxAhead = 24 * time.Hour

// Observation is one price observed at a provider.
type Observation struct {
	Symbol        market.Symbol
	Provider      string
	Price         market.Price
	ObservedAt    time.Time // UTC, truncated to microseconds as in Postgres
	RawResponseID uuid.UUID
	Correction    int // CloudEvent extension "correction": greater wins; 0 if absent
}

// CompareRank compares observations of one point: of several, the one with the greatest rank counts, in whatever order they
// arrive. The rank is (correction, raw_response_id as 16 bytes, price).
func (o Observation) CompareRank(p Observation) int {
	if c := cmp.Compare(o.Correction, p.Correction); c != 0 {
		return c
	}
	if c := bytes.Compare(o.RawResponseID[:], p.RawResponseID[:]); c != 0 {
		return c
	}
	return o.Price.Cmp(p.Price)
}

// body is the JSON value of the event. Unknown members are ignored.
type body struct {
	Symbol        string       `json:"symbol"`
	Price         market.Price `json:"price"`
	Timestamp     string       `json:"timestamp"`
	Source        string       `json:"source"`
	RawResponseID string       `json:"raw_response_id"`
}

// Message is an event ready for Kafka.
type Message struct {
	Key     string
	Value   []byte
	Headers map[string]string // content-type and ce_* headers (CloudEvents Kafka binding, binary content mode)
}

// ID returns the CloudEvents id. An observation of a raw response always has the same id, wherever it is published.
func (o Observation) ID() string {
	return fmt.Sprintf("%s:%s:%d", o.RawResponseID, o.Symbol, o.ObservedAt.UnixMicro())
}

// Encode returns the Kafka message of an observation.
func Encode(o Observation) (Message, error) {
	stamp := o.ObservedAt.UTC().Format(time.RFC3339Nano)
	value, err := json.Marshal(body{string(o.Symbol), o.Price, stamp, o.Provider, o.RawResponseID.String()})
	if err != nil {
		return Message{}, fmt.Errorf("encode price event: %w", err)
	}
	return Message{
		Key:   string(o.Symbol),
		Value: value,
		Headers: map[string]string{
			"content-type":    "application/json",
			"ce_specversion":  "1.0",
			"ce_id":           o.ID(),
			"ce_source":       "/providers/" + o.Provider,
			"ce_type":         Type,
			"ce_subject":      string(o.Symbol),
			"ce_partitionkey": string(o.Symbol),
			"ce_time":         stamp,
		},
	}, nil
}

// Decode reads the JSON value of an event and validates it; now is the time on our clock. All errors are Invalid with one of the
// codes of [Refusals]: the same bytes can never succeed. (A timestamp too far ahead could later, but it would be wrong then,
// too.)
func Decode(data []byte, correction int, now time.Time) (Observation, error) {
	if len(data) == 0 {
		return Observation{}, fault.New(fault.Invalid, fault.CodeNoData, "event has no data")
	}
	m, err := decodeMembers(data)
	if err != nil {
		return Observation{}, err
	}
	for i, text := range m.texts {
		if !text.given {
			return Observation{}, fault.New(fault.Invalid, fault.CodeInvalidSchema, "member %q must be a string", textMembers[i])
		}
	}
	o := Observation{Correction: correction}
	if o.Symbol, err = market.ParseSymbol(m.texts[0].value); err != nil {
		return Observation{}, err
	}
	if o.Provider, err = market.ParseProvider(m.texts[2].value); err != nil {
		return Observation{}, err
	}
	if m.price == "" {
		return Observation{}, fault.New(fault.Invalid, fault.CodeInvalidSchema, "member \"price\" is missing")
	}
	if o.Price, err = market.ParsePrice(m.price); err != nil {
		return Observation{}, err
	}
	// Parse alone accepts any two characters in place of the brackets of {…}.
	if o.RawResponseID, err = uuid.Parse(m.texts[3].value); err != nil || uuid.Validate(m.texts[3].value) != nil {
		return Observation{}, fault.New(fault.Invalid, fault.CodeInvalidSchema, "raw_response_id is not a UUID")
	}
	if o.ObservedAt, err = timerange.ParseRFC3339(m.texts[1].value); err != nil {
		return Observation{}, fault.New(fault.Invalid, fault.CodeInvalidTimestamp, "timestamp is not RFC 3339")
	}
	o.ObservedAt = o.ObservedAt.UTC().Truncate(time.Microsecond)
	return o, o.validateRest(now)
}

// textMembers are the members that must be strings.
var textMembers = [...]string{"symbol", "timestamp", "source", "raw_response_id"}

// members are the members of the body that are read.
type members struct {
	texts [len(textMembers)]text
	price string // the JSON value, unchanged; empty if absent
}

type text struct {
	value string
	given bool // present, and a string
}

func notJSON() error { return fault.New(fault.Invalid, fault.CodeUndecodable, "data is not JSON") }

// decodeMembers reads exactly one JSON object. Names are compared exactly, unlike in encoding/json with a struct. If a name is
// repeated, the last one counts, as in encoding/json.
func decodeMembers(data []byte) (members, error) {
	var m members
	dec := jsontext.NewDecoder(bytes.NewBuffer(data), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	if dec.PeekKind() != '{' {
		if _, err := dec.ReadValue(); err != nil || !atEnd(dec) {
			return m, notJSON()
		}
		return m, fault.New(fault.Invalid, fault.CodeInvalidSchema, "data is not a JSON object")
	}
	if _, err := dec.ReadToken(); err != nil {
		return m, notJSON()
	}
	for dec.PeekKind() != '}' {
		name, err := dec.ReadToken()
		if err != nil {
			return m, notJSON()
		}
		member := name.String()
		i := slices.Index(textMembers[:], member)
		if i >= 0 && dec.PeekKind() == '"' {
			token, err := dec.ReadToken()
			if err != nil {
				return m, notJSON()
			}
			m.texts[i] = text{token.String(), true}
			continue
		}
		value, err := dec.ReadValue()
		switch {
		case err != nil:
			return m, notJSON()
		case i >= 0:
			m.texts[i] = text{}
		case member == "price":
			m.price = string(value)
		}
	}
	if _, err := dec.ReadToken(); err != nil || !atEnd(dec) {
		return m, notJSON()
	}
	return m, nil
}

// atEnd reports whether nothing but white space follows.
func atEnd(dec *jsontext.Decoder) bool {
	_, err := dec.ReadToken()
	return errors.Is(err, io.EOF)
}

// Validate checks an observation by the rules of [Decode]. The ingest side calls it before it stores a quote, so that nothing is
// stored that the consumer would refuse. Errors are Invalid.
func (o Observation) Validate(now time.Time) error {
	if _, err := market.ParseSymbol(string(o.Symbol)); err != nil {
		return err
	}
	if _, err := market.ParseProvider(o.Provider); err != nil {
		return err
	}
	if _, err := market.ParsePrice(o.Price.String()); err != nil {
		return err
	}
	return o.validateRest(now)
}

// validateRest checks the rules that parsing does not check.
func (o Observation) validateRest(now time.Time) error {
	if o.ObservedAt.Before(time.Unix(0, 0)) {
		return fault.New(fault.Invalid, fault.CodeInvalidTimestamp, "timestamp is before 1970")
	}
	if o.ObservedAt.After(now.Add(MaxAhead)) {
		return fault.New(fault.Invalid, fault.CodeInvalidTimestamp, "timestamp is more than 24 h ahead")
	}
	if o.Correction < 0 {
		return fault.New(fault.Invalid, fault.CodeInvalidSchema, "correction must not be negative")
	}
	return nil
}
