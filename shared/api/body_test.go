package api_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/stretchr/testify/require"

	"marketdata/shared/api"
	"marketdata/shared/fault"
	"marketdata/shared/testenv/call"
)

type wish struct {
	ID   string `path:"id" format:"uuid"`
	Body struct {
		Count  int      `json:"count,omitempty" minimum:"1" maximum:"1000"`
		Big    int64    `json:"big,omitempty"`
		Rate   float64  `json:"rate,omitempty"`
		Target string   `json:"target,omitempty" enum:"a,b"`
		Names  []string `json:"names,omitempty" nullable:"true"`
		Inner  struct {
			Note string `json:"note,omitempty"`
		} `json:"inner,omitempty"`
		Until *string `json:"until,omitempty" nullable:"true"`
	}
}

type granted struct {
	Body struct {
		Count int   `json:"count"`
		Big   int64 `json:"big"`
	}
}

const id = "0190f5d8-0000-7000-8000-000000000001"

func wishes(t *testing.T) func(body string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	handler := wishHandler(t)
	return func(body string, header ...string) *httptest.ResponseRecorder {
		return call.Do(handler, http.MethodPost, "/wishes/"+id, body, append([]string{"Content-Type", "application/json"}, header...)...)
	}
}

func wishHandler(t *testing.T) http.Handler {
	t.Helper()
	s, _ := newFunction(t)
	api.Handle(s.api, huma.Operation{OperationID: "wish", Method: http.MethodPost, Path: "/wishes/{id}"},
		func(_ context.Context, in *wish) (*granted, error) {
			out := &granted{}
			out.Body.Count, out.Body.Big = in.Body.Count, in.Body.Big
			return out, nil
		})
	return s.Handler()
}

func TestABodyIsWhatItsSchemaSays(t *testing.T) {
	t.Parallel()
	post := wishes(t)
	for body, want := range map[string]string{
		`{"count":302.0}`: `"count":302,`, `{"count":3.02e2}`: `"count":302,`, `{"count":5E0}`: `"count":5,`, `{"big":9007199254740993}`: `"big":9007199254740993}`,
		`{"big":1e18}`: `"big":1000000000000000000}`, `{"big":-0.0E400}`: `"big":0}`, `{"count":1,"inner":{},"names":["a"]}`: `"count":1,`, `{"names":null,"until":null}`: `"count":0,`,
		" {} \n": `"count":0,`, `{"rate":1.50}`: `"count":0,`,
	} {
		t.Run(body, func(t *testing.T) {
			t.Parallel()
			w := post(body)
			require.Equal(t, http.StatusOK, w.Code, body+w.Body.String())
			require.Contains(t, w.Body.String(), want)
		})
	}
	for body, where := range map[string]string{
		`{"target":null}`:              "body.target",
		`{"inner":{"note":null}}`:      "body.inner.note",
		`{"names":["a",null]}`:         "body.names[1]",
		`null`:                         "body",
		`{"inner":{"note":"a\u0000"}}`: "body.inner.note",
		`{"names":["\u0000"]}`:         "body.names[0]",
		`{"count":302.5}`:              "body.count",
		`{"count":1e400}`:              "",
		`{"count":1e-400}`:             "",
		`{"big":1e30}`:                 "",
		`{"big":9223372036854775808}`:  "",
		`{"rate":1e999}`:               "",
		`{"COUNT":1}`:                  "COUNT",
		`{"count":1}{}`:                "body",
		`{"count":1`:                   "body",
		"\xef\xbb\xbf{}":               "body",
		"{\"target\":\"\xff\"}":        "body",
		`{"target":"c"}`:               "body.target",
		`{"count":"x"}`:                "body.count",
		`[]`:                           "",
		`{"count":01}`:                 "body",
		`{"count":NaN}`:                "body",
		strings.Repeat("[", 20000):     "body",
		`{"` + strings.Repeat("x", 900_000) + `":1}`: "body",
	} {
		t.Run(body[:min(len(body), 60)], func(t *testing.T) {
			t.Parallel()
			w := post(body)
			require.Equal(t, http.StatusBadRequest, w.Code)
			p := call.Problem(t, w)
			require.Equal(t, "invalid_parameter", p.Code)
			require.Contains(t, p.Detail, where)
			require.Less(t, len(p.Detail), 1100)
			requireOwnWords(t, p.Detail)
		})
	}
}

// requireOwnWords finds what Go's packages say in their errors.
func requireOwnWords(t *testing.T, detail string) {
	t.Helper()
	require.NotRegexp(t, `json:|Go |unmarshal|invalid character|unexpected end of|parsing |strconv|invalid UUID length|invalid syntax|time: |EOF|map\[`, detail)
}

// Which of two members of one name counts is up to the reader (RFC 8259 section 4), so the check might see another body than the handler.
func TestANameIsInAnObjectOnce(t *testing.T) {
	t.Parallel()
	post := wishes(t)
	for _, body := range []string{
		`{"count":1,"count":2}`, `{"inner":{"note":"\u0000"},"inner":{}}`, `{"inner":{"note":"a","note":"b"}}`, `{"count":1,"c\u006funt":2}`,
		`{"names":["\ud800"],"inner":{"note":"\u0000"},"inner":{}}`,
	} {
		w := post(body)
		require.Equal(t, http.StatusBadRequest, w.Code, body)
		require.Contains(t, w.Body.String(), "the body has a name twice in one object", body)
	}
}

// A body is bounded by its length, not by its depth.
func TestADeepBodyIsRefused(t *testing.T) {
	t.Parallel()
	post := wishes(t)
	for _, body := range []string{
		strings.Repeat("[", 100_000), strings.Repeat(`{"inner":`, 100_000), `{"names":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + `}`,
	} {
		w := post(body)
		require.Equal(t, http.StatusBadRequest, w.Code)
		require.Contains(t, w.Body.String(), `"code":"invalid_parameter"`)
		require.Less(t, w.Body.Len(), 1000)
	}
}

func TestOtherMediaTypesAndCodingsAreRefused(t *testing.T) {
	t.Parallel()
	post := wishes(t)
	for _, header := range [][]string{
		{"Content-Type", "text/plain"}, {"Content-Type", "application/x-www-form-urlencoded"}, {"Content-Type", "; ;"}, {"Content-Type", "application/cbor"}, {"Content-Encoding", "gzip"},
	} {
		w := post(`{}`, header...)
		require.Equal(t, http.StatusUnsupportedMediaType, w.Code, header)
		require.Equal(t, "unsupported_media_type", call.Problem(t, w).Code, header)
	}
	for _, header := range [][]string{{"Content-Type", "application/json; charset=utf-8"}, {"Content-Type", ""}, {"Content-Encoding", "identity"}} {
		require.Equal(t, http.StatusOK, post(`{}`, header...).Code, header)
	}
}

// What becomes of a body that does not arrive is the client's fault, unless the server has cut it off for others.
func TestABodyThatDoesNotArrive(t *testing.T) {
	t.Parallel()
	handler := wishHandler(t)
	for err, want := range map[error]int{
		io.ErrUnexpectedEOF:    http.StatusBadRequest,
		os.ErrDeadlineExceeded: http.StatusBadRequest,
		fault.New(fault.Unavailable, fault.CodeOverloaded, "others wait").After(time.Second): http.StatusServiceUnavailable,
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/wishes/"+id, io.MultiReader(strings.NewReader("{"), iotest.ErrReader(err)))
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		require.Equal(t, want, w.Code, err)
		code, after := "incomplete_request", ""
		if want == http.StatusServiceUnavailable {
			code, after = "overloaded", "1"
		}
		require.Equal(t, code, call.Problem(t, w).Code)
		require.Equal(t, after, w.Header().Get("Retry-After"))
	}
}

func TestABodyOfExactlyTheLimitIsTaken(t *testing.T) {
	t.Parallel()
	post := wishes(t)
	require.Equal(t, http.StatusOK, post("{}"+strings.Repeat(" ", 1<<20-2)).Code)
	w := post("{}" + strings.Repeat(" ", 1<<20-1))
	require.Equal(t, http.StatusRequestEntityTooLarge, w.Code)
	require.Equal(t, "body_too_large", call.Problem(t, w).Code)
}

func TestDetailsOfParametersAreOurOwnWords(t *testing.T) {
	t.Parallel()
	s, logs := newFunction(t)
	type query struct {
		ID    string `path:"id" format:"uuid"`
		N     int    `query:"n"`
		Since string `query:"since" format:"date-time"`
		Flag  bool   `query:"flag"`
	}
	api.Handle(s.api, huma.Operation{OperationID: "show", Method: http.MethodGet, Path: "/things/{id}"},
		func(context.Context, *query) (*struct{}, error) { return nil, nil })
	for _, target := range []string{
		"/things/abc", "/things/" + id + "x", "/things/" + id + "?n=1.5", "/things/" + id + "?n=99999999999999999999", "/things/" + id + "?since=yesterday",
		"/things/" + id + "?flag=perhaps", "/things/%00", "/things/%ff", "/things/" + id + "?since=%00", "/things/" + id + "?since=%ff", "/things/" + id + "?n=1%00",
	} {
		w := call.Do(s.Handler(), http.MethodGet, target, "")
		require.Equal(t, http.StatusBadRequest, w.Code, target)
		requireOwnWords(t, call.Problem(t, w).Detail)
	}
	logs.Reset()
	call.Do(s.Handler(), http.MethodGet, "/things/"+strings.Repeat("x", 100_000), "", "Ce-Id", strings.Repeat("y", 900_000), "User-Agent", strings.Repeat("z", 100_000))
	require.Less(t, logs.Len(), 20_000, "what a client sends does not fill the log")
	require.NotContains(t, logs.String(), "event_id", "no event comes this way")
}

func TestSchemasAreNamedAfterTheirFunction(t *testing.T) {
	t.Parallel()
	s, _ := newFunction(t)
	api.Handle(s.api, huma.Operation{OperationID: "put-thing", Method: http.MethodPost, Path: "/things"},
		func(_ context.Context, in *thing) (*thing, error) { return in, nil })
	first := call.Do(s.Handler(), http.MethodGet, "/openapi.json", "").Body.String()
	require.Contains(t, first, `"TestThingBody"`)
	require.Contains(t, first, `"Problem"`, "what all functions share has one name")
	require.NotContains(t, first, `"422"`, "what the library answers so is 400")
	for range 20 {
		require.Equal(t, first, call.Do(s.Handler(), http.MethodGet, "/openapi.json", "").Body.String())
	}
}
