package kafkasource

import (
	"net/http"
	"strings"
)

// requestHeader returns the headers of a delivery (WebClientCloudEventSender): binary content mode, without percent-encoding.
func requestHeader(ev Event, namespace string) http.Header {
	h := make(http.Header, len(ev.Attributes)+5)
	h["User-Agent"], h["Prefer"], h["Kn-Namespace"] = userAgent, prefer, []string{namespace}
	for name, value := range ev.Attributes {
		if name != "" {
			h["Ce-"+strings.ToUpper(name[:1])+name[1:]] = []string{latin1(value)} // in canonical form
		}
	}
	if ev.ContentType != "" {
		h["Content-Type"] = []string{latin1(ev.ContentType)}
	}
	if ev.Traceparent != "" {
		h["Traceparent"] = []string{latin1(ev.Traceparent)}
	}
	return h
}

var userAgent, prefer = []string{"Vert.x-WebClient/4.5.14"}, []string{"reply"}

// latin1 encodes text as the HTTP client of Vert.x does: one Latin-1 byte for each character, and ? for those above U+00FF. Vert.x
// refuses control characters, so the data plane retries such an event for hours and then loses it, together with its dead letter
// (eventing-kafka-broker#2732). latin1 replaces them with ?, too, so that nothing is lost; [Event.Unsendable] reports them.
func latin1(s string) string {
	if isPrintable(s) {
		return s
	}
	out := make([]byte, 0, len(s))
	for _, c := range s {
		if isControl(c) || c > 0xFF {
			c = '?'
		}
		out = append(out, byte(c))
	}
	return string(out)
}

func isPrintable(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7E {
			return false
		}
	}
	return true
}

func isControl(c rune) bool { return c < 0x20 && c != '\t' || c == 0x7F }

// Unsendable returns the name of an attribute that a KafkaSource on a cluster cannot deliver, or "" if there is none.
func (ev Event) Unsendable() string {
	for name, value := range ev.Attributes {
		if strings.ContainsFunc(value, isControl) {
			return name
		}
	}
	return ""
}
