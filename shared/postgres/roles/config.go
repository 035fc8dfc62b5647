package roles

import (
	"maps"

	"marketdata/shared/secret"
)

// URLs are the connection strings of the functions' own users. A function without one uses DATABASE_URL.
type URLs struct {
	GetLatest    secret.Value `envconfig:"GET_LATEST_DATABASE_URL"`
	Poll         secret.Value `envconfig:"POLL_DATABASE_URL"`
	ComputeMA    secret.Value `envconfig:"COMPUTE_MA_DATABASE_URL"`
	DLQInspector secret.Value `envconfig:"DLQ_INSPECTOR_DATABASE_URL"`
}

// ByFunction returns the URLs that are set.
func (u URLs) ByFunction() map[string]string {
	urls := map[string]string{
		"get-latest": string(u.GetLatest), "poll": string(u.Poll), "compute-ma": string(u.ComputeMA), "dlq-inspector": string(u.DLQInspector),
	}
	maps.DeleteFunc(urls, func(_, url string) bool { return url == "" })
	return urls
}
