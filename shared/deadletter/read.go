package deadletter

import (
	"cmp"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"time"

	"marketdata/shared/kafkaclient"
	"marketdata/shared/priceevent"
)

// Text returns the last value of a header, empty if there is none. Names are compared without case.
func Text(headers []kafkaclient.Header, name string) string {
	return string(last(headers, name))
}

func last(headers []kafkaclient.Header, name string) []byte {
	if name == "" {
		return nil
	}
	for i := len(headers) - 1; i >= 0; i-- {
		if strings.EqualFold(headers[i].Name, name) {
			return headers[i].Value
		}
	}
	return nil
}

// number reads a header as decimal text, or as Spring writes it: a big-endian integer of 4 or 8 bytes.
func number(headers []kafkaclient.Header, name string) (int64, bool) {
	v := last(headers, name)
	if n, err := strconv.ParseInt(string(v), 10, 64); err == nil {
		return n, true
	}
	switch len(v) {
	case 4:
		return int64(int32(binary.BigEndian.Uint32(v))), true //nolint:gosec // the sign bit is meant
	case 8:
		return int64(binary.BigEndian.Uint64(v)), true //nolint:gosec // the sign bit is meant
	}
	return 0, false
}

// Origin returns the place of the record that a dead letter was made of, nil if its headers do not say.
func Origin(headers []kafkaclient.Header) *kafkaclient.Place {
	for _, f := range families {
		topic := Text(headers, f.topic)
		partition, ok1 := number(headers, f.partition)
		offset, ok2 := number(headers, f.offset)
		if topic != "" && ok1 && ok2 && partition >= 0 && partition <= math.MaxInt32 && offset >= 0 {
			return &kafkaclient.Place{Topic: topic, Partition: int32(partition), Offset: offset}
		}
	}
	return nil
}

// FailureOf returns the failure that a dead letter's headers describe. Texts are as they stand in the headers: of any length, and not
// necessarily UTF-8.
func FailureOf(headers []kafkaclient.Header) Failure {
	f := Failure{Code: "unknown"}
	if !f.read(headers) {
		f.readKnative(headers)
	}
	f.FailedAt, _ = time.Parse(time.RFC3339Nano, Text(headers, failedAt)) // zero if they do not say
	return f
}

func (f *Failure) read(headers []kafkaclient.Header) bool {
	for _, family := range families {
		code, reason := Text(headers, family.code), Text(headers, family.reason)
		if code != "" || reason != "" {
			f.Code, f.Reason, f.Function = cmp.Or(code, f.Code), reason, Text(headers, family.function)
			return true
		}
	}
	return false
}

// readKnative reads the extensions knativeerrordest, -code and -data. Data is base64 of the first bytes of the answer (raw in some
// versions). If they are a problem document of ours, the failure has its code and detail.
func (f *Failure) readKnative(headers []kafkaclient.Header) {
	destination, code := Text(headers, "ce_knativeerrordest"), Text(headers, "ce_knativeerrorcode")
	if destination == "" && code == "" {
		return
	}
	f.Function = destination
	f.Code, f.Reason = priceevent.CodeDeliveryFailed, "no answer from the function"
	if code != "" {
		f.Code, f.Reason = "http_"+code, "the function answered with status "+code
	}
	data := Text(headers, "ce_knativeerrordata")
	if raw, err := base64.StdEncoding.DecodeString(data); err == nil {
		data = string(raw)
	}
	var problem struct{ Code, Detail string }
	if json.Unmarshal([]byte(data), &problem) == nil && problem.Code != "" {
		f.Code, f.Reason = problem.Code, problem.Detail
	} else if data != "" {
		f.Reason += ": " + data
	}
}

// Cut describes a value of which a dead letter has only the beginning.
type Cut struct {
	Bytes  int64  // of the whole value
	SHA256 string // of the whole value, in hex
}

// CutOf reads the headers that tell of a cut value; nil if the value is whole.
func CutOf(headers []kafkaclient.Header) *Cut {
	size, ok := number(headers, valueBytes)
	if !ok || size < 0 {
		return nil
	}
	return &Cut{size, strings.ToLower(Text(headers, valueSHA256))}
}

// Headers returns the headers that tell of c.
func (c Cut) Headers() []kafkaclient.Header {
	return []kafkaclient.Header{
		{Name: valueBytes, Value: strconv.AppendInt(nil, c.Bytes, 10)},
		{Name: valueSHA256, Value: []byte(c.SHA256)},
	}
}

// NewCut describes a value by its length and digest.
func NewCut(size int64, sha256 []byte) Cut { return Cut{size, hex.EncodeToString(sha256)} }
