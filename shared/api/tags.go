package api

import (
	"slices"

	"github.com/danielgtaylor/huma/v2"
)

// Tags of operations.
const (
	TagPrices      = "prices"
	TagAverages    = "averages"
	TagPolling     = "polling jobs"
	TagBackfills   = "backfills"
	TagStream      = "stream"
	TagDeadLetters = "dead letters"
	TagOperations  = "operations"
)

// Tags explains the tags, in the order in which to read them.
var Tags = []*huma.Tag{
	{Name: TagPrices, Description: "The latest price of an instrument, and the stored ones. A price that was answered is stored, and its event is published at least once."},
	{Name: TagAverages, Description: "Exact moving averages of the stored prices. The order in which prices arrive does not matter, nor do duplicates."},
	{Name: TagPolling, Description: "Jobs that fetch prices at a fixed interval until they are paused or deleted. No period is recorded twice, whatever the number of replicas; one run makes up for all periods that were missed."},
	{Name: TagBackfills, Description: "Histories of bars from a provider: a range once, or from a start on and then each new bar. Every bar has one event, so a repeated backfill changes nothing."},
	{Name: TagStream, Description: "Newest prices and averages as server-sent events."},
	{Name: TagDeadLetters, Description: "Events that could not be processed: see why, correct and replay them, or set them aside. These routes need an operator's token."},
	{Name: TagOperations, Description: "Health and this document."},
}

// tagsOf returns those of [Tags] that a document's operations have.
func tagsOf(doc *huma.OpenAPI) (tags []*huma.Tag) {
	used := map[string]bool{}
	for _, path := range doc.Paths {
		for _, op := range operationsOf(path) {
			for _, tag := range op.Tags {
				used[tag] = true
			}
		}
	}
	return slices.DeleteFunc(slices.Clone(Tags), func(t *huma.Tag) bool { return !used[t.Name] })
}
