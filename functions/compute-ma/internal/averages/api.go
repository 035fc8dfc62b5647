// Package averages is the HTTP API of moving averages: the newest of a series, their history, and a list of all series.
package averages

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"marketdata/functions/compute-ma/internal/series"
	"marketdata/functions/compute-ma/internal/store"
	"marketdata/shared/api"
	"marketdata/shared/service"
)

// Reader reads averages and points. Its errors are faults. [Stored] is one.
type Reader interface {
	LatestAverage(ctx context.Context, k series.Key, window int) (series.Average, error)
	ComputeAverage(ctx context.Context, k series.Key, window int) (series.Average, error)
	Points(ctx context.Context, k series.Key, r series.Range, limit int) ([]series.Point, error)
	PointsBefore(ctx context.Context, k series.Key, r series.Range, limit int) ([]series.Point, error)
	// Series reads the states of the series after a key; see [store.Reader.Series].
	Series(ctx context.Context, after series.Key, limit int) (all []store.Listed, last series.Key, more bool, err error)
	// Adjusting reports whether points of a series of bars may be in the shares of before a split.
	Adjusting(ctx context.Context, k series.Key, first, last int64) (bool, error)
	// Snapshot calls f with a Reader for which time stands still.
	Snapshot(ctx context.Context, f func(Reader) error) error
}

// Config is what the API needs.
type Config struct {
	Reads           Reader
	Windows         []int          // whose newest averages are stored, in points
	DefaultProvider string         // of a query that names none
	Secret          service.Secret // page tokens are signed with it; the same for all replicas
}

// API answers queries. Safe for concurrent use.
type API struct {
	Config
	key   []byte // of page tokens
	slots slots
}

// New returns an API.
func New(c Config) *API {
	return &API{Config: c, key: newPageKey(string(c.Secret)), slots: newSlots()}
}

// Routes adds the queries to the function's API, behind limit.
func (a *API) Routes(routes *api.API, limit service.Middleware) {
	op := func(id, path, summary string) huma.Operation {
		return huma.Operation{OperationID: id, Method: http.MethodGet, Path: path, Summary: summary, Tags: []string{api.TagAverages}}
	}
	api.Handle(routes, op("latest-average", "/averages/latest", "The newest moving average of a series"), a.latest, limit)
	api.HandleTable(routes, op("average-history", "/averages/history", "Moving averages computed from the stored points"), a.history, a.table, limit)
	api.Handle(routes, op("list-series", "/averages/series", "All series with their newest prices and averages"), a.list, limit)
	routes.Document(describe)
	explain(routes)
}
