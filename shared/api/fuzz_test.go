package api

import (
	"bytes"
	"encoding/base64"
	"encoding/csv"
	"encoding/json"
	"math/big"
	"mime"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"

	"marketdata/shared/fault"
)

// FuzzReadQuery compares with the standard library's reader: what is accepted has each parameter once, with the value that huma reads.
func FuzzReadQuery(f *testing.F) {
	for _, query := range []string{"a=1&b=%20+", "a=%zz", "a=1;b=2", "a=1&a=2", "a", "a=", "page_token=", "a=%00", "a=\xff", "=1", "&&", "%61=1&a=2", "a=%f0%28"} {
		f.Add(query)
	}
	f.Fuzz(func(t *testing.T, query string) {
		got := url.Values{}
		err := ReadQuery(query, func(name, value string) error {
			got.Add(name, value)
			return nil
		})
		if err != nil {
			require.Equal(t, fault.CodeInvalidParameter, fault.CodeOf(err))
			f, _ := fault.As(err)
			require.Less(t, len(f.Detail), 600)
			return
		}
		want, err := url.ParseQuery(query)
		require.NoError(t, err)
		require.Equal(t, want, got)
		for name, values := range got {
			require.Len(t, values, 1)
			require.True(t, utf8.ValidString(name+values[0]) && !strings.Contains(name+values[0], "\x00"))
		}
	})
}

// FuzzPageToken reads any token of a signed query, and cursors of any text of an unsigned one: anybody can make those.
func FuzzPageToken(f *testing.F) {
	type cursor struct {
		N int64
		S string
	}
	signed, open := QueryOf("q", 1).SignedWith([]byte("key")), QueryOf("q", 1)
	f.Add(Token(signed, cursor{1, "a"}), `{"N":1,"S":"a"}`)
	f.Add(Token(open, cursor{1, "a"}), `{"n":1,"N":2,"S":"\u0000"}`)
	f.Add(Token(signed, cursor{1, "a"})[:20]+"\r\n"+Token(signed, cursor{1, "a"})[20:], `null`)
	last := Token(signed, cursor{1, "a"})
	f.Add(last[:len(last)-1]+string(last[len(last)-1]+1), `{}`) // has bits beyond its last byte
	f.Add(ExampleToken, strings.Repeat("[", 100_000))
	f.Fuzz(func(t *testing.T, token, text string) {
		c, err := ReadToken[cursor](signed, token)
		if err == nil && c != nil {
			require.Equal(t, token, Token(signed, *c), "only our own tokens are accepted")
		} else if err != nil {
			require.ErrorIs(t, err, ErrPageToken)
		}
		c, err = ReadToken[cursor](open, forged(open, text))
		if err != nil {
			require.ErrorIs(t, err, ErrPageToken)
			return
		}
		require.True(t, json.Valid([]byte(text)))
		require.True(t, isText(c.S), "the database takes it")
		again, err := ReadToken[cursor](open, Token(open, *c))
		require.NoError(t, err)
		require.Equal(t, c, again)
	})
}

// forged returns the token of a cursor's text.
func forged(q Query, text string) string {
	return base64.RawURLEncoding.EncodeToString(append(q.sum([]byte(text)), text...))
}

// FuzzAccept reads any Accept: a client gets JSON, CSV, or 406, and JSON if it says nothing.
func FuzzAccept(f *testing.F) {
	for _, accept := range []string{"", "text/csv", "*/*;q=0.1, text/csv;q=0.2", "text/*;q=NaN", "text/csv;q=1e400", `a;b="c,text/csv`, "application/json;q=0", ",;,", "text/csv;q=0x1p-2"} {
		f.Add(accept)
	}
	f.Fuzz(func(t *testing.T, accept string) {
		for _, mediaType := range []string{jsonType, csvType} {
			q := quality([]string{accept}, mediaType)
			require.True(t, q >= 0 && q <= 1, "%g", q)
		}
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header["Accept"] = []string{accept}
		asCSV, err := wantsCSV(r)
		if err != nil {
			require.Equal(t, fault.CodeNotAcceptable, fault.CodeOf(err))
		}
		if asCSV || err != nil {
			require.NotEmpty(t, accept)
		}
	})
}

// FuzzTable writes a table of any texts: a reader of RFC 4180 gets the same cells, a client that follows the link sends the same query with
// the token, and the name of the file has nothing that a system would refuse.
func FuzzTable(f *testing.F) {
	f.Add("2024-03-20T10:30:00Z", "150.25", "false", "symbol=AAPL&limit=2", "gR9m", "prices-^GSPC-yfinance-1d")
	f.Add("a,b", "\"", "c\r\nd\re", "symbol=%5EGSPC&format=csv&page_token=old&limit=1", "t>; rel=x, <?", "sma5-A/B:C=D&E+F-p")
	f.Add("", "", "", "format=%0d%0aX:y", "", "")
	f.Add("é", " a ", "\x00", "%zz&a=1&a=2", "a b", "..")
	f.Fuzz(func(t *testing.T, first, second, third, query, token, name string) {
		rows := [][]string{{first, second, third}, {third, second, first}}
		table := &Table{Name: name, Columns: []string{"a", "b", "c"}, Next: func() string { return token }}
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.URL.RawQuery = query
		w := httptest.NewRecorder()
		table.write(w, r, rows, false)
		got, err := csv.NewReader(w.Body).ReadAll()
		require.NoError(t, err)
		want := [][]string{table.Columns}
		for _, row := range rows {
			cells := make([]string, len(row))
			for i, cell := range row {
				cells[i] = strings.ReplaceAll(cell, "\r", "") // part of a line end, which the reader returns as \n
			}
			want = append(want, cells)
		}
		require.Equal(t, want, got)

		link := w.Header().Get("Link")
		require.Equal(t, token != "", link != "")
		if link != "" {
			inner, found := strings.CutSuffix(strings.TrimPrefix(link, "<?"), `>; rel="next"`)
			require.True(t, found && !strings.ContainsAny(inner, "<>\r\n"), link)
			followed, err := url.ParseQuery(inner)
			require.NoError(t, err)
			expected := r.URL.Query()
			expected.Set("page_token", token)
			require.Equal(t, expected, followed)
		}
		disposition := w.Header().Get("Content-Disposition")
		require.Equal(t, r.URL.Query().Get("format") != "", disposition != "")
		if disposition != "" && strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-^=/:_&+") == "" { // as of a series
			_, params, err := mime.ParseMediaType(disposition)
			require.NoError(t, err)
			require.Regexp(t, `^[A-Za-z0-9._-]*\.csv$`, params["filename"])
			require.Len(t, params["filename"], len(name+".csv"))
		}
	})
}

// FuzzBody sends any body to a route with a schema: what is accepted is one JSON value without repeated names, and means the same
// afterwards.
func FuzzBody(f *testing.F) {
	for _, body := range []string{
		`{"count":302.0,"names":["a"],"inner":{"note":"x"}}`, `{"inner":{"note":"\u0000"},"inner":{}}`, `{"count":1e20}`, `{"count":0e21}`, `{"count":1e-400}`, "{}{}",
		`{"names":null}`, `{"names":["\ud800"],"inner":{"note":"\u0000"},"inner":{}}`, `{"":{"":"\uD800"}}`, "\ufeff{}", "\"\xff\"", strings.Repeat("[", 100_000), strings.Repeat(`{"inner":`, 100_000), `{"count":00}`,
	} {
		f.Add([]byte(body))
	}
	type wish struct {
		Count int      `json:"count,omitempty"`
		Names []string `json:"names,omitempty"`
		Inner struct {
			Note string `json:"note,omitempty"`
		} `json:"inner,omitempty"`
	}
	registry := huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)
	want := &huma.RequestBody{Content: map[string]*huma.MediaType{jsonType: {Schema: huma.SchemaFromType(registry, reflect.TypeFor[wish]())}}}
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := checkBody(want, registry, http.Header{"Content-Type": {jsonType}}, body)
		if err != nil {
			require.Equal(t, fault.CodeInvalidParameter, fault.CodeOf(err))
			return
		}
		var before, after any
		for _, v := range []struct {
			text []byte
			into *any
		}{{body, &before}, {got, &after}} {
			check := jsontext.NewDecoder(bytes.NewReader(v.text), jsontext.AllowInvalidUTF8(true)) // refuses a name that is repeated
			require.NoError(t, check.SkipValue())
			d := json.NewDecoder(bytes.NewReader(v.text))
			d.UseNumber()
			require.NoError(t, d.Decode(v.into))
		}
		require.True(t, equal(before, after), "%s became %s", body, got)
		read, _ := after.(map[string]any)
		if count, ok := read["count"].(json.Number); ok && len(count) <= 40 { // longer ones are refused
			if n, ok := new(big.Rat).SetString(count.String()); ok && n.IsInt() && n.Num().IsInt64() {
				_, err := count.Int64()
				require.NoError(t, err, "huma reads whole numbers in plain digits only")
			}
		}
	})
}

// equal compares JSON values, and numbers by value.
func equal(a, b any) bool {
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		for name := range a {
			ok = ok && equal(a[name], b[name])
		}
		return ok && len(a) == len(b)
	case []any:
		b, ok := b.([]any)
		for i := range a {
			ok = ok && len(a) == len(b) && equal(a[i], b[i])
		}
		return ok && len(a) == len(b)
	case json.Number:
		b, ok := b.(json.Number)
		if a == b {
			return true
		}
		x, ok1 := new(big.Rat).SetString(a.String())
		y, ok2 := new(big.Rat).SetString(b.String())
		return ok && ok1 && ok2 && x.Cmp(y) == 0
	}
	return a == b
}
