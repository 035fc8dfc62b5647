package api

import (
	"mime"
	"net/http"
	"strconv"
	"strings"

	"marketdata/shared/fault"
)

const (
	jsonType = "application/json"
	csvType  = "text/csv"
)

// wantsCSV reports whether a client gets CSV rather than JSON: by the parameter format, else by Accept (RFC 9110 section 12.5.1), else
// not. The error is "not_acceptable": it accepts neither.
func wantsCSV(r *http.Request) (bool, error) {
	switch format := r.URL.Query().Get("format"); {
	case format != "":
		return format == "csv", nil // another value is refused with the other parameters
	case r.Header.Get("Accept") == "":
		return false, nil
	}
	accepted := r.Header.Values("Accept")
	asJSON, asCSV := quality(accepted, jsonType), quality(accepted, csvType)
	if asJSON == 0 && asCSV == 0 {
		return false, fault.New(fault.Invalid, fault.CodeNotAcceptable, "the answer can be %s or %s", jsonType, csvType)
	}
	return asCSV > asJSON, nil
}

// quality returns how much a client wants a media type, from 0 (not at all) to 1: the weight of the most specific range that has it.
// Ranges that cannot be read do not count, nor do parameters other than q: we have one variant of each type.
func quality(accepted []string, mediaType string) float64 {
	kind, _, _ := strings.Cut(mediaType, "/")
	best, q := 0, 0.0
	for part := range strings.SplitSeq(strings.Join(accepted, ","), ",") {
		name, params, err := mime.ParseMediaType(part)
		if err != nil {
			continue
		}
		specific := 0
		switch name {
		case mediaType:
			specific = 3
		case kind + "/*":
			specific = 2
		case "*/*":
			specific = 1
		}
		if specific < best || specific == 0 {
			continue
		}
		weight := 1.0
		if text, ok := params["q"]; ok {
			if weight, err = strconv.ParseFloat(text, 64); err != nil || !(weight >= 0 && weight <= 1) {
				continue
			}
		}
		if specific > best || weight > q {
			best, q = specific, weight
		}
	}
	return q
}
