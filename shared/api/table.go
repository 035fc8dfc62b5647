package api

import (
	"context"
	"encoding/csv"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"marketdata/shared/crowd"
	"marketdata/shared/problem"
	"marketdata/shared/request"
	"marketdata/shared/service"
)

// Format is the part of a request that chooses between JSON and CSV. Embed it.
type Format struct {
	Format string `query:"format" enum:"json,csv" doc:"Format of the answer; if absent, Accept decides, and JSON is the default"`
}

// Table is a list as CSV (RFC 4180).
type Table struct {
	Name    string   // of the file, without its extension
	Columns []string // the names in the first line
	// Read returns the next rows, at least one; none at the end.
	Read func(ctx context.Context) ([][]string, error)
	// Next returns the token of the page that follows the rows that were read; empty: there is none. It is called after the first Read of a
	// request that has a limit; rows end there.
	Next func() string
}

// HandleTable is [Handle] for a list that clients can also have as CSV. rows returns the table of a request; without a limit (whole) it is
// the whole list, else one page.
//
// A table is written while it is read. If that fails after the answer has begun, the connection is cut, so that half a table never looks
// complete. Tables must hold nothing but numbers, times and words of our own: a text that begins with = + - or @ would be a formula to a
// spreadsheet.
func HandleTable[I, O any](
	a *API, op huma.Operation, handler func(context.Context, *I) (*O, error), rows func(ctx context.Context, in *I, whole bool) (*Table, error),
	around ...service.Middleware,
) {
	asJSON := register(a, op, handler)
	hidden := op
	hidden.Hidden, hidden.OperationID, hidden.Path = true, op.OperationID+"-csv", op.Path+".csv" // no route leads there
	asCSV := register(a, hidden, func(ctx context.Context, in *I) (*huma.StreamResponse, error) {
		whole := !hasLimit(ctx)
		t, err := rows(ctx, in, whole)
		if err != nil {
			return nil, err
		}
		first, err := t.Read(ctx)
		if err != nil {
			return nil, err // nothing is written yet
		}
		return &huma.StreamResponse{Body: func(c huma.Context) {
			r, w := humago.Unwrap(c)
			t.write(w, r, first, whole)
		}}, nil
	})
	a.Document(func(doc *huma.OpenAPI) { describeTable(doc.Paths[op.Path].Get) })
	a.mount(op, inTurn(crowd.New(together, patience), wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Add("Vary", "Accept")
		r = r.WithContext(context.WithValue(r.Context(), limitKey{}, r.URL.Query().Has("limit")))
		switch wanted, err := wantsCSV(r); {
		case err != nil:
			problem.Write(w, r, err)
		case wanted:
			asCSV.ServeHTTP(w, r)
		default:
			asJSON.ServeHTTP(w, r)
		}
	}), around)))
}

type limitKey struct{} // context key: whether a request has a limit, which huma hides behind the default

func hasLimit(ctx context.Context) bool {
	limited, _ := ctx.Value(limitKey{}).(bool)
	return limited
}

// write writes the table. Its caller has read the first rows.
func (t *Table) write(w http.ResponseWriter, r *http.Request, rows [][]string, whole bool) {
	header := w.Header()
	header.Set("Content-Type", csvType+"; charset=utf-8; header=present")
	query := r.URL.Query()
	if query.Get("format") != "" {
		header.Set("Content-Disposition", `attachment; filename="`+fileName(t.Name)+`.csv"`)
	}
	if !whole {
		if token := t.Next(); token != "" {
			query.Set("page_token", token)
			header.Set("Link", "<?"+query.Encode()+`>; rel="next"`)
		}
	}
	if r.Method == http.MethodHead {
		return
	}
	out := csv.NewWriter(w)
	out.UseCRLF = true
	err := out.Write(t.Columns)
	for err == nil && len(rows) > 0 {
		if err = out.WriteAll(rows); err != nil || !whole {
			break
		}
		rows, err = t.Read(r.Context())
	}
	if out.Flush(); err == nil {
		err = out.Error()
	}
	if err != nil {
		request.NoteError(r.Context(), err)
		panic(http.ErrAbortHandler)
	}
}

// fileName returns a name that every system takes: symbols have characters that are special to some.
func fileName(name string) string {
	return strings.Map(func(c rune) rune {
		if strings.ContainsRune("=^/:&+", c) {
			return '_'
		}
		return c
	}, name)
}

func describeTable(op *huma.Operation) {
	op.Description = strings.TrimSpace(op.Description + "\n\nAs CSV (RFC 4180, with a header line; the digits are those of JSON) with Accept: text/csv or format=csv. " +
		"Without limit it is the whole range from page_token on, streamed: an answer that is cut off ends without its last chunk, so it does not look complete. " +
		"With limit it is one page, and the header Link leads to the next.")
	ok := op.Responses["200"]
	ok.Content[csvType] = &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString}}
	if ok.Headers == nil {
		ok.Headers = map[string]*huma.Param{}
	}
	text := &huma.Schema{Type: huma.TypeString}
	ok.Headers["Link"] = &huma.Param{
		Schema: text, Description: "CSV with limit: the next page, with rel=\"next\"; absent on the last",
		Example: `<?format=csv&limit=100&page_token=gR9mS0Y2b4kT1wVxqJ7nPTE3MTA5MzA2MDAwMDAwMDA&symbol=AAPL>; rel="next"`,
	}
	ok.Headers["Content-Disposition"] = &huma.Param{
		Schema: text, Description: "With format=csv: the name of the file", Example: `attachment; filename="prices-AAPL-yfinance.csv"`,
	}
	ok.Headers["Vary"] = &huma.Param{Schema: text, Description: "Accept chooses between JSON and CSV, so caches must keep them apart", Example: "Accept"}
}
