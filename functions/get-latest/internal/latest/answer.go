package latest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"marketdata/shared/api"
	"marketdata/shared/pricecache"
	"marketdata/shared/problem"
	"marketdata/shared/request"
)

type priceBody struct {
	Symbol         string     `json:"symbol" example:"AAPL"`
	Price          api.Number `json:"price" doc:"Exact digits, as the provider sent them"`
	Timestamp      time.Time  `json:"timestamp" doc:"When the provider observed the price"`
	Provider       string     `json:"provider" example:"yfinance"`
	Currency       string     `json:"currency,omitempty" doc:"The provider's name for it; prices in minor units (GBp) are not converted"`
	Stale          bool       `json:"stale,omitempty" doc:"The provider failed; this is an older price"`
	FallbackFrom   string     `json:"fallback_from,omitempty" doc:"With provider=auto: the first provider of the chain, if another one answered instead"`
	FallbackReason string     `json:"fallback_reason,omitempty" doc:"The code of its error"`
}

type batchBody struct {
	Prices map[string]priceBody        `json:"prices" doc:"By symbol"`
	Errors map[string]*problem.Problem `json:"errors" doc:"By symbol, as the request spelled it"`
}

// answer is a price, or the prices of a batch.
type answer struct {
	xCache xCache
	last   pricecache.Entry // determines Age and max-age
	tag    string           // the ETag; empty for none
	body   any
}

// single returns the answer to a request for one symbol.
func single(f found) answer {
	return answer{f.xCache, f.entry, etag(f), bodyOf(f)}
}

func bodyOf(f found) priceBody {
	q := f.entry.Quote
	return priceBody{
		Symbol: string(q.Symbol), Price: api.Number(q.Price.String()), Timestamp: q.ObservedAt.UTC(), Provider: q.Provider,
		Currency: q.Currency, Stale: f.xCache == stale, FallbackFrom: f.fallbackFrom, FallbackReason: f.fallbackReason,
	}
}

// etag returns the entity tag of a single price. It covers all that the body depends on.
func etag(f found) string {
	tag := `"` + f.entry.RawResponseID.String()
	if f.xCache == stale {
		tag += "-stale"
	}
	if f.fallbackFrom != "" {
		tag += "-" + f.fallbackFrom + "-" + f.fallbackReason
	}
	return tag + `"`
}

// batch combines the results of several symbols into one answer.
func batch(ctx context.Context, q query, results []result) answer {
	body := batchBody{Prices: map[string]priceBody{}, Errors: map[string]*problem.Problem{}}
	for text, err := range q.refused {
		body.Errors[text] = problem.New(err, request.ID(ctx))
	}
	a, tags := answer{xCache: hit, last: pricecache.Entry{Left: math.MaxInt64}}, sha256.New()
	for i, r := range results {
		symbol := string(q.symbols[i])
		if r.err != nil {
			body.Errors[symbol] = problem.New(r.err, request.ID(ctx))
			continue
		}
		body.Prices[symbol] = bodyOf(r.found)
		a.xCache = worse(a.xCache, r.found.xCache)
		a.last.Age, a.last.Left = max(a.last.Age, r.found.entry.Age), min(a.last.Left, r.found.entry.Left)
		tags.Write([]byte(symbol + etag(r.found)))
	}
	a.tag, a.body = `"`+hex.EncodeToString(tags.Sum(nil)[:16])+`"`, body
	if len(body.Errors) > 0 {
		a.xCache = worse(a.xCache, miss)
		a.last.Left, a.tag = 0, "" // problems must not be cached: they contain the request ID
	}
	return a
}

// worse returns the worse of two values; stale is the worst.
func worse(a, b xCache) xCache {
	for _, x := range []xCache{stale, miss} {
		if a == x || b == x {
			return x
		}
	}
	return hit
}

// write sends the answer, or 304 if the client already has it. max-age counts from the fetch, because caches subtract Age
// themselves (RFC 9111 section 4.2); it is 0 if the price is no longer fresh.
func (a answer) write(w http.ResponseWriter, held []string, private bool) error {
	lifetime, control := 0, "max-age="
	if a.last.Left > 0 {
		lifetime = int((a.last.Age + a.last.Left).Seconds())
	}
	if private {
		control = "private, max-age="
	}
	status, text := http.StatusNotModified, []byte(nil)
	if a.tag == "" || !matches(held, a.tag) {
		var err error
		if text, err = encode(a.body); err != nil {
			return fmt.Errorf("encode answer: %w", err)
		}
		status, text = http.StatusOK, append(text, '\n')
	}
	header := w.Header() // set by canonical names, which saves converting them
	header["X-Cache"] = []string{string(a.xCache)}
	header["Age"] = []string{strconv.Itoa(int(a.last.Age.Seconds()))}
	header["Cache-Control"] = []string{control + strconv.Itoa(lifetime)}
	if a.tag != "" {
		header["Etag"] = []string{a.tag}
	}
	if status == http.StatusOK {
		header["Content-Type"] = []string{"application/json"}
		header["Content-Length"] = []string{strconv.Itoa(len(text))}
	}
	w.WriteHeader(status)
	if text != nil {
		_, _ = w.Write(text) // an error means that the client went away
	}
	// Send the answer before the request is counted and logged.
	_ = http.NewResponseController(w).Flush()
	return nil
}

// matches reports whether If-None-Match lists tag or is * (RFC 9110 section 13.1.2). Tags are compared weakly.
func matches(lines []string, tag string) bool {
	for _, line := range lines {
		if strings.Trim(line, " \t") == "*" {
			return true
		}
		for line = strings.TrimLeft(line, ", \t"); line != ""; line = strings.TrimLeft(line, ", \t") {
			first, quoted := strings.CutPrefix(strings.TrimPrefix(line, "W/"), `"`)
			opaque, rest, closed := strings.Cut(first, `"`)
			if !quoted || !closed {
				break // not a list of entity tags: ignore the rest
			}
			if opaque == strings.Trim(tag, `"`) {
				return true
			}
			line = rest
		}
	}
	return false
}

// encode encodes a single price, which most answers are, by hand: on its first use, encoding/json's reflection takes a fifth of the
// time from exec to the first hit. A test checks that both encodings are equal.
func encode(body any) ([]byte, error) {
	b, ok := body.(priceBody)
	if !ok || strings.ContainsFunc(b.Currency, needsEscape) {
		return json.Marshal(body)
	}
	text := make([]byte, 0, 192)
	member := func(name, value string) { // no value needs escaping: the currency is checked above, the others are validated
		if value != "" {
			text = append(append(append(append(append(text, `,"`...), name...), `":"`...), value...), '"')
		}
	}
	member("symbol", b.Symbol)
	text[0] = '{'
	text = append(append(text, `,"price":`...), b.Price...)
	text = append(b.Timestamp.AppendFormat(append(text, `,"timestamp":"`...), time.RFC3339Nano), '"')
	member("provider", b.Provider)
	member("currency", b.Currency)
	if b.Stale {
		text = append(text, `,"stale":true`...)
	}
	member("fallback_from", b.FallbackFrom)
	member("fallback_reason", b.FallbackReason)
	return append(text, '}'), nil
}

func needsEscape(c rune) bool { return (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') }
