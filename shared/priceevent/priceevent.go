// Package priceevent is the format of a price event: encode, decode, validate. It does no I/O.
//
// An event travels as a binary-mode CloudEvent on the Kafka topic price-events, key = symbol. Producers call [Encode],
// consumers [Decode]; both sides apply [Observation.Validate], so that what is stored is what can be consumed.
package priceevent

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"marketdata/shared/fault"
	"marketdata/shared/market"
)

// Type is the CloudEvents type of a price event.
const Type = "marketdata.price.observed.v1"

// Topic is the Kafka topic of price events, DeadLetterTopic that of their dead letters.
const (
	Topic           = "price-events"
	DeadLetterTopic = "price-events-dlq"
)

// MaxAhead is how far a timestamp may lie in the future of our clock.
const MaxAhead = 24 * time.Hour

// Observation is one price observed at a provider.
type Observation struct {
	Symbol        market.Symbol
	Provider      string
	Price         market.Price
	ObservedAt    time.Time // UTC, cut to microseconds: what Postgres can hold
	RawResponseID uuid.UUID
	Correction    int // CloudEvent extension "correction": greater wins; 0 if absent
}

// body is the JSON value of the event. Unknown members are allowed and ignored.
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

// ID is the CloudEvents id: the same observation of the same raw response has the same id wherever it is published.
func (o Observation) ID() string {
	return fmt.Sprintf("%s:%s:%d", o.RawResponseID, o.Symbol, o.ObservedAt.UnixMicro())
}

// Encode makes the Kafka message of an observation.
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

// Decode reads the JSON value of an event and validates it against our clock. All errors are Invalid: the same bytes
// can never succeed (a timestamp too far ahead could, in time, but by then it is a lie about the past). Codes: no_data,
// undecodable, invalid_schema, invalid_symbol, invalid_provider, invalid_price, invalid_timestamp.
func Decode(data []byte, correction int, now time.Time) (Observation, error) {
	if len(data) == 0 {
		return Observation{}, fault.New(fault.Invalid, "no_data", "event has no data")
	}
	members, err := decodeObject(data)
	if err != nil {
		return Observation{}, err
	}
	var o Observation
	texts := map[string]string{}
	for _, name := range []string{"symbol", "timestamp", "source", "raw_response_id"} {
		var s *string
		if err := json.Unmarshal(members[name], &s); err != nil || s == nil {
			return Observation{}, fault.New(fault.Invalid, "invalid_schema", "member %q must be a string", name)
		}
		texts[name] = *s
	}
	if o.Symbol, err = market.ParseSymbol(texts["symbol"]); err != nil {
		return Observation{}, err
	}
	if o.Provider, err = market.ParseProvider(texts["source"]); err != nil {
		return Observation{}, err
	}
	if members["price"] == nil {
		return Observation{}, fault.New(fault.Invalid, "invalid_schema", "member \"price\" is missing")
	}
	if o.Price, err = market.ParsePrice(string(members["price"])); err != nil {
		return Observation{}, err
	}
	if o.RawResponseID, err = uuid.Parse(texts["raw_response_id"]); err != nil {
		return Observation{}, fault.New(fault.Invalid, "invalid_schema", "raw_response_id is not a UUID")
	}
	if o.ObservedAt, err = time.Parse(time.RFC3339Nano, texts["timestamp"]); err != nil {
		return Observation{}, fault.New(fault.Invalid, "invalid_timestamp", "timestamp is not RFC 3339")
	}
	o.ObservedAt = o.ObservedAt.UTC().Truncate(time.Microsecond)
	o.Correction = correction
	return o, o.Validate(now)
}

// decodeObject reads exactly one JSON object. Names are compared exactly: encoding/json into a struct would fold case.
func decodeObject(data []byte) (map[string]json.RawMessage, error) {
	if !json.Valid(data) {
		return nil, fault.New(fault.Invalid, "undecodable", "data is not JSON")
	}
	if b := bytes.TrimLeft(data, " \t\r\n"); b[0] != '{' {
		return nil, fault.New(fault.Invalid, "invalid_schema", "data is not a JSON object")
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(data, &members); err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "undecodable", "data is not a JSON object")
	}
	for name := range members {
		if len(members[name]) == 0 {
			delete(members, name)
		}
	}
	return members, nil
}

// Validate checks what a type cannot: the ingest side calls it before it stores, so that nothing is stored that the
// consumer would refuse. Errors are Invalid.
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
	if o.ObservedAt.Before(time.Unix(0, 0)) {
		return fault.New(fault.Invalid, "invalid_timestamp", "timestamp is before 1970")
	}
	if o.ObservedAt.After(now.Add(MaxAhead)) {
		return fault.New(fault.Invalid, "invalid_timestamp", "timestamp is more than 24 h ahead")
	}
	if o.Correction < 0 {
		return fault.New(fault.Invalid, "invalid_schema", "correction must not be negative")
	}
	return nil
}
