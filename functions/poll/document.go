package main

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"marketdata/functions/poll/internal/jobs"
	"marketdata/shared/api"
	"marketdata/shared/fault"
	"marketdata/shared/market"
)

const exampleJobID = "poll_0190f5d800007000800000000000abcd"

// exampleAt is the time of examples.
var exampleAt = time.Date(2024, 3, 20, 10, 30, 0, 0, time.UTC)

func exampleJobs() (active, waiting, paused jobBody) {
	config := configBody{[]market.Symbol{"AAPL", "AAPPL"}, 60, "yfinance"}
	active = jobBody{
		JobID: exampleJobID, Status: string(jobs.Active), Config: config, CreatedAt: exampleAt.Add(-time.Hour), NextRunAt: new(exampleAt.Add(time.Minute)),
		LastRunAt: &exampleAt, Runs: 61, Failures: 61, Results: []resultBody{
			{Symbol: "AAPL", At: exampleAt, Price: "150.25", Timestamp: new(exampleAt.Add(-2 * time.Second)), Provider: new("yfinance")},
			{Symbol: "AAPPL", At: exampleAt, Code: new(fault.CodeSymbolNotFound), AskAt: new(exampleAt.Add(32 * time.Minute))},
		},
	}
	waiting, paused = active, active
	waiting.BackoffUntil, waiting.Reason = new(exampleAt.Add(40*time.Second)), new("provider_timeout: yfinance does not answer in time")
	paused.Status, paused.NextRunAt = string(jobs.Paused), nil
	return active, waiting, paused
}

// describe adds to the document what huma must not check, because the errors are ours.
func describe(historian func(provider string) market.Historian) func(*huma.OpenAPI) {
	return func(doc *huma.OpenAPI) {
		longest := market.LongestName
		for _, id := range []string{"create-job", "create-backfill"} {
			symbol := api.Body(doc, id, "symbols").Items
			symbol.Pattern, symbol.MaxLength = market.SymbolPattern, &longest
		}
		oneOf := func(names []string) string { return "^(" + strings.Join(names, "|") + ")?$" }
		api.Body(doc, "create-job", "provider").Pattern = oneOf(append(market.Providers(), jobs.Auto))
		api.Body(doc, "create-backfill", "provider").Pattern = oneOf(slices.DeleteFunc(market.Providers(), func(name string) bool { return historian(name) == nil }))
		api.Body(doc, "create-backfill", "start").Pattern = api.BoundPattern
		api.Body(doc, "create-backfill", "end").Pattern = "^$|" + api.BoundPattern
	}
}

// explain says what the operations on jobs do, with examples.
func explain(routes *api.API) {
	active, waiting, paused := exampleJobs()
	path := func(d api.Doc) api.Doc {
		d.Codes = append(d.Codes, fault.CodeStorageUnavailable, fault.CodeJobNotFound)
		return d
	}
	links := api.Links("job_id", "$response.body#/job_id", "show-job", "list-runs", "pause-job", "resume-job", "delete-job")
	routes.Explain("create-job", api.Doc{
		Description: "Creates a job that fetches the symbols now and then in every interval, until it is paused or deleted. A symbol that several jobs want is " +
			"fetched once for all of them. The answer does not wait for the first fetch: see the job's results. " +
			"Each price that is fetched is stored, and its event is published at least once.\n\n" +
			"Without an Idempotency-Key, a repeated request creates another job. With one, a repeat within 24 hours returns the same job, per client, unless it was " +
			"deleted; the same key with another body is idempotency_conflict. The limit (RATE_LIMIT_POLL) fails closed: " +
			"while Redis is unavailable no job is created.",
		Codes: []string{fault.CodeInvalidSymbol, fault.CodeUnknownProvider, fault.CodeIdempotencyConflict, fault.CodeStorageUnavailable},
		Request: api.Examples{
			"every minute":                    map[string]any{"symbols": []string{"AAPL", "MSFT"}, "interval": 60, "provider": "yfinance"},
			"the provider that answers first": map[string]any{"symbols": []string{"AAPL"}, "provider": jobs.Auto},
		},
		Returns: "The job was created, or already had been by a request with the same Idempotency-Key",
		Answer:  api.Examples{"a new job": createBody{exampleJobID, "accepted", configBody{[]market.Symbol{"AAPL", "MSFT"}, 60, "yfinance"}}},
		Links:   links,
	})
	page := listAnswer{}.Body
	page.Jobs, page.NextPageToken = []jobBody{withoutResults(active), withoutResults(paused)}, new(api.ExampleToken)
	last := listAnswer{}.Body
	last.Jobs = []jobBody{withoutResults(waiting)}
	routes.Explain("list-jobs", api.Doc{
		Description: "All jobs in the order of their creation, without the results of their symbols. Jobs that are created meanwhile neither shift nor repeat others.",
		Codes:       []string{fault.CodeStorageUnavailable},
		Returns:     "A page of jobs",
		Answer:      api.Examples{"a page": page, "the last page": last},
		Links:       api.Links("job_id", "$response.body#/jobs/0/job_id", "show-job", "list-runs"),
	})
	routes.Explain("show-job", path(api.Doc{
		Description: "The job with the last result of each symbol: its price, or the code of the problem. While its provider does not answer, the job waits, and " +
			"backoff_until and reason say so; a job whose symbols have all failed for 24 hours is paused.",
		Returns: "The job",
		Answer:  api.Examples{"active, and one symbol is not known": active, "waiting for its provider": waiting, "paused": paused},
		Links:   links,
	}))
	runs := runsAnswer{}.Body
	runs.Runs = []runBody{{exampleAt, exampleAt.Add(800 * time.Millisecond), 1}, {exampleAt.Add(-time.Minute), exampleAt.Add(-59 * time.Second), 1}}
	routes.Explain("list-runs", path(api.Doc{
		Description: "The recorded runs, newest first. No period is recorded twice; several periods that were missed are made up for by one run. Runs are kept for RUNS_RETENTION.",
		Returns:     "A page of runs",
		Answer:      api.Examples{"two runs in which a symbol failed": runs},
	}))
	routes.Explain("pause-job", path(api.Doc{
		Description: "Ends the job's runs until it is resumed. A run that is under way is finished. To pause a paused job changes nothing, so a repeat is harmless.",
		Returns:     "The job, paused",
		Answer:      api.Examples{"paused": paused},
		Links:       links,
	}))
	routes.Explain("resume-job", path(api.Doc{
		Description: "Makes a paused job due at once, and gives it another 24 hours in which its symbols may fail. To resume an active job changes nothing. " +
			"The period in which it was paused is not recorded again.",
		Returns: "The job, active",
		Answer:  api.Examples{"active": active},
		Links:   links,
	}))
	routes.Explain("delete-job", path(api.Doc{
		Description: "Deletes the job with its runs and its Idempotency-Key; the prices stay. A repeat is job_not_found.",
		Returns:     "The job is deleted",
	}))
}

func withoutResults(b jobBody) jobBody {
	b.Results = nil
	return b
}

// explainBackfills says what the operations on backfills do, with examples.
func explainBackfills(routes *api.API) {
	const id = "bf_0190f5d800007000800000000000abcd"
	start := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	config := backfillConfig{[]market.Symbol{"AAPL"}, "yfinance", market.Interval("1d"), start, nil}
	following := backfillBody{BackfillID: id, Status: "active", Config: config, CreatedAt: exampleAt, Series: []seriesBody{{
		Symbol: "AAPL", State: "following", From: new(start.AddDate(0, 0, 2)), To: new(time.Date(2024, 3, 19, 0, 0, 0, 0, time.UTC)), Bars: 6092, Missing: 224,
		NextAt: new(time.Date(2024, 3, 20, 20, 10, 0, 0, time.UTC)),
	}}}
	paused, complete, listed := following, following, following
	paused.Status, listed.Series = "paused", nil
	complete.Status, complete.Config.End = "complete", new(time.Date(2010, 1, 1, 0, 0, 0, 0, time.UTC))
	complete.Series = []seriesBody{{
		Symbol: "AAPL", State: "complete", From: following.Series[0].From, To: new(time.Date(2009, 12, 31, 0, 0, 0, 0, time.UTC)), Bars: 2515, Missing: 94,
	}}
	created := backfillCreated{}.Body
	created.BackfillID, created.Status, created.Config = id, "accepted", config
	path := func(d api.Doc) api.Doc {
		d.Codes = append(d.Codes, fault.CodeStorageUnavailable, fault.CodeBackfillNotFound)
		return d
	}
	links := api.Links("backfill_id", "$response.body#/backfill_id", "show-backfill", "pause-backfill", "resume-backfill", "delete-backfill")
	request := map[string]any{"symbols": []string{"AAPL"}, "provider": "yfinance", "interval": "1d", "start": "2000-01-01"}
	bounded := maps.Clone(request)
	bounded["end"] = "2010-01-01"
	routes.Explain("create-backfill", api.Doc{
		Description: "Fetches the bars of a range from the provider, and without an end each new bar from then on. The bars are a series of their own, named after provider and " +
			"interval (yfinance-1d): its prices are closes. Only final bars are stored, each once, however often it is fetched; its event is published at least once. " +
			"The answer does not wait for the bars: see the progress. Histories take at most four fifths of a provider's budget.\n\n" +
			"With an Idempotency-Key, a repeat within 24 hours returns the same backfill, per client, unless it was deleted; the same key with another body is " +
			"idempotency_conflict. Without one, a repeat makes another backfill of the same series, which fetches nothing twice. " +
			"The limit (RATE_LIMIT_POLL, shared with create-job) fails closed: while Redis is unavailable no backfill is created.",
		Codes: []string{
			fault.CodeInvalidSymbol, fault.CodeUnknownProvider, fault.CodeNoHistory, fault.CodeIdempotencyConflict, fault.CodeStorageUnavailable,
		},
		Request: api.Examples{"follow": request, "a range": bounded},
		Returns: "The backfill was created, or already had been by a request with the same Idempotency-Key",
		Answer:  api.Examples{"a new backfill": created},
		Links:   links,
	})
	page := backfillsAnswer{}.Body
	page.Backfills = []backfillBody{listed}
	routes.Explain("list-backfills", api.Doc{
		Description: "All backfills in the order of their creation, without the progress of their symbols. Backfills that are created meanwhile neither shift nor repeat others.",
		Codes:       []string{fault.CodeStorageUnavailable},
		Returns:     "A page of backfills",
		Answer:      api.Examples{"one backfill": page},
		Links:       api.Links("backfill_id", "$response.body#/backfills/0/backfill_id", "show-backfill"),
	})
	routes.Explain("show-backfill", path(api.Doc{
		Description: "The backfill with the progress of each symbol. A symbol is filling until its range is covered, then complete, or following if there is no end. " +
			"After a split its history is fetched again, and it is adjusting: until that is done, averages over the split are marked so.",
		Returns: "The backfill",
		Answer:  api.Examples{"following": following, "complete": complete},
		Links:   links,
	}))
	routes.Explain("pause-backfill", path(api.Doc{
		Description: "Ends the fetching until it is resumed, unless another backfill wants the same series. To pause a paused backfill changes nothing.",
		Returns:     "The backfill, paused",
		Answer:      api.Examples{"paused": paused},
		Links:       links,
	}))
	routes.Explain("resume-backfill", path(api.Doc{
		Description: "Goes on from the last bar: what was missed meanwhile is fetched. To resume an active backfill changes nothing.",
		Returns:     "The backfill, active",
		Answer:      api.Examples{"following": following},
		Links:       links,
	}))
	routes.Explain("delete-backfill", path(api.Doc{
		Description: "Deletes the backfill and its Idempotency-Key; its prices stay. What is being fetched for it is not stored. A repeat is backfill_not_found.",
		Returns:     "The backfill is deleted",
	}))
}
