package api_test

import (
	"context"
	"encoding/csv"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"
	"github.com/stretchr/testify/require"

	"marketdata/shared/api"
	"marketdata/shared/fault"
	"marketdata/shared/testenv/call"
)

type numbersQuery struct {
	Limit     int    `query:"limit" minimum:"1" maximum:"100" default:"10"`
	PageToken string `query:"page_token"`
	api.Format
}

type numbersAnswer struct {
	Body struct {
		Numbers []int `json:"numbers"`
	}
}

// numbers is a function with a list of the numbers below 95, in pages of 10 if it is read whole.
type numbers struct {
	function
	fails   int // the read that fails, from 1; 0: none
	written func(reads int)
}

func newNumbers(t *testing.T) *numbers {
	t.Helper()
	f, _ := newFunction(t)
	n := &numbers{function: f, written: func(int) {}}
	api.HandleTable(f.api, huma.Operation{OperationID: "numbers", Method: http.MethodGet, Path: "/numbers"},
		func(context.Context, *numbersQuery) (*numbersAnswer, error) { return &numbersAnswer{}, nil }, n.table)
	return n
}

func (n *numbers) table(_ context.Context, in *numbersQuery, whole bool) (*api.Table, error) {
	at, _ := strconv.Atoi(in.PageToken)
	limit, reads := in.Limit, 0
	if whole {
		limit = 10
	}
	return &api.Table{
		Name: "all^of=them", Columns: []string{"n", "square"},
		Read: func(context.Context) (rows [][]string, err error) {
			n.written(reads)
			if reads++; reads == n.fails {
				return nil, fault.New(fault.Unavailable, fault.CodeStorageUnavailable, "x")
			}
			for ; at < 95 && len(rows) < limit; at++ {
				rows = append(rows, []string{strconv.Itoa(at), strconv.Itoa(at * at)})
			}
			return rows, nil
		},
		Next: func() string {
			if at < 95 {
				return strconv.Itoa(at)
			}
			return ""
		},
	}, nil
}

func TestFormatOfAList(t *testing.T) {
	t.Parallel()
	n := newNumbers(t)
	const asJSON, asCSV, neither = "application/json", "text/csv; charset=utf-8; header=present", "application/problem+json"
	for name, c := range map[string]struct{ query, accept, want string }{
		"nothing":                           {"", "", asJSON},
		"anything":                          {"", "*/*", asJSON},
		"JSON":                              {"", "application/json", asJSON},
		"CSV":                               {"", "text/csv", asCSV},
		"CSV with a parameter":              {"", "Text/CSV; header=present", asCSV},
		"any text":                          {"", "text/*", asCSV},
		"any application":                   {"", "application/*;q=0.1", asJSON},
		"a browser":                         {"", "text/html,application/xhtml+xml,*/*;q=0.8", asJSON},
		"both":                              {"", "text/csv, application/json", asJSON},
		"rather CSV":                        {"", "text/csv, application/json;q=0.9", asCSV},
		"rather JSON":                       {"", "text/csv;q=0.5, application/json;q=0.51", asJSON},
		"anything but JSON":                 {"", "*/*, application/json;q=0", asCSV},
		"anything but CSV":                  {"", "text/csv;q=0, */*;q=0.1", asJSON},
		"the specific weight counts":        {"", "text/*;q=1, text/csv;q=0.2, application/json;q=0.3", asJSON},
		"an unreadable weight":              {"", "text/csv;q=x, application/json;q=0.1", asJSON},
		"an image":                          {"", "image/png", neither},
		"an image, whatever the format":     {"?format=csv", "image/png", asCSV},
		"neither of both":                   {"", "application/json;q=0, text/csv;q=0.0", neither},
		"CSV by the parameter":              {"?format=csv", "application/json", asCSV},
		"JSON by the parameter":             {"?format=json", "text/csv", asJSON},
		"another format":                    {"?format=xml", "", neither},
		"a format that is given repeatedly": {"?format=csv&format=csv", "", neither},
		"another parameter":                 {"?x=1", "text/csv", neither},
		"a limit that is too high":          {"?limit=101", "text/csv", neither},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			header := []string{"Accept", c.accept}
			if c.accept == "" {
				header = nil
			}
			w := call.Do(n.Handler(), http.MethodGet, "/numbers"+c.query, "", header...)
			require.Equal(t, c.want, w.Header().Get("Content-Type"), w.Body.String())
			require.Contains(t, w.Header().Values("Vary"), "Accept")
			if c.want == neither && c.query == "" {
				require.Equal(t, http.StatusNotAcceptable, w.Code)
				require.Equal(t, "not_acceptable", call.Problem(t, w).Code)
			}
			named := w.Header().Get("Content-Disposition")
			require.Equal(t, c.want == asCSV && c.query != "", named == `attachment; filename="all_of_them.csv"`, named)
		})
	}
}

func TestAWholeTable(t *testing.T) {
	t.Parallel()
	n := newNumbers(t)
	w := httptest.NewRecorder()
	n.written = func(reads int) { // what was read before is not kept
		if reads > 0 {
			require.Equal(t, min(1+10*reads, 1+95-3), strings.Count(w.Body.String(), "\r\n"))
		}
	}
	r := httptest.NewRequest(http.MethodGet, "/numbers?page_token=3", nil)
	r.Header.Set("Accept", "text/csv")
	n.Handler().ServeHTTP(w, r)
	require.True(t, strings.HasPrefix(w.Body.String(), "n,square\r\n3,9\r\n"), w.Body.String())
	rows, err := csv.NewReader(w.Body).ReadAll()
	require.NoError(t, err)
	require.Len(t, rows, 1+95-3)
	require.Empty(t, w.Header().Get("Link"))
}

// With a limit, a client follows the links, as it does with the pages of JSON.
func TestPagesOfATable(t *testing.T) {
	t.Parallel()
	n := newNumbers(t)
	target, pages := "/numbers?limit=30&format=csv", 0
	var all []string
	for target != "" {
		w := call.Do(n.Handler(), http.MethodGet, target, "")
		rows, err := csv.NewReader(w.Body).ReadAll()
		require.NoError(t, err)
		for _, row := range rows[1:] {
			all = append(all, row[0])
		}
		pages++
		query, found := strings.CutPrefix(strings.TrimSuffix(w.Header().Get("Link"), `>; rel="next"`), "<?")
		if target = ""; found {
			target = "/numbers?" + query
		}
	}
	require.Equal(t, 4, pages)
	require.Len(t, all, 95)
	require.Equal(t, "94", all[94])
}

// If the table cannot be read to its end, the client must see that. If it cannot be read at all, the client gets a problem document.
func TestATableThatFails(t *testing.T) {
	t.Parallel()
	for fails, complete := range map[int]bool{0: true, 1: false, 2: false, 5: false} {
		n := newNumbers(t)
		n.fails = fails
		server := httptest.NewServer(n.Handler())
		t.Cleanup(server.Close)
		resp, err := http.Get(server.URL + "/numbers?format=csv")
		if fails > 1 && err != nil {
			continue // nothing of it had left the server
		}
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, resp.Body.Close())
		if fails == 1 {
			require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
			require.Contains(t, string(body), "storage_unavailable")
			continue
		}
		require.Equal(t, complete, err == nil, "%d: %v", fails, err)
		require.Equal(t, http.StatusOK, resp.StatusCode)
	}
	head := call.Do(newNumbers(t).Handler(), http.MethodHead, "/numbers?format=csv", "")
	require.Empty(t, head.Body.String())
	require.Equal(t, "text/csv; charset=utf-8; header=present", head.Header().Get("Content-Type"))
}

func TestTheDocumentHasBothFormats(t *testing.T) {
	t.Parallel()
	n := newNumbers(t)
	n.api.Explain("numbers", api.Doc{})
	doc := n.api.OpenAPI()
	require.Len(t, doc.Paths, 1)
	op := doc.Paths["/numbers"].Get
	require.Contains(t, op.Responses["200"].Content, "application/json")
	require.Contains(t, op.Responses["200"].Content, "text/csv")
	require.Contains(t, op.Responses, "406")
	require.Equal(t, []any{"json", "csv"}, api.Parameter(doc, "/numbers", "format").Enum)
}
