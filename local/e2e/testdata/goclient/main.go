// Command goclient calls the API with the client that was generated beside it. Its argument is the URL of the gateway.
package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
)

func main() {
	if err := run(context.Background(), os.Args[1], os.Getenv("DLQ_TOKEN")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("all calls succeeded")
}

// want is an error if a call failed or was not answered as expected.
func want(what string, err error, ok bool, got any) error {
	if err == nil && !ok {
		err = fmt.Errorf("unexpected answer: %+v", got)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

func run(ctx context.Context, url, token string) error {
	c, err := NewClientWithResponses(url)
	if err != nil {
		return err
	}
	yfinance := "yfinance"

	symbol, quotes := "AAPL", LatestPriceParamsProvider("yfinance")
	one, err := c.LatestPriceWithResponse(ctx, &LatestPriceParams{Symbol: &symbol, Provider: &quotes})
	if err := want("latest price", err, err == nil && one.JSON200 != nil, one); err != nil {
		return err
	}
	price, err := one.JSON200.AsGetLatestPriceBody()
	if err := want("latest price", err, price.Symbol == "AAPL" && price.Price > 0, price); err != nil {
		return err
	}
	several := []string{"AAPL", "NOPE"}
	batch, err := c.LatestPriceWithResponse(ctx, &LatestPriceParams{Symbols: &several, Provider: &quotes})
	if err := want("batch", err, err == nil && batch.JSON200 != nil, batch); err != nil {
		return err
	}
	both, err := batch.JSON200.AsGetLatestBatchBody()
	if err := want("batch", err, both.Prices["AAPL"].Price == price.Price && both.Errors["NOPE"].Code == "symbol_not_found", both); err != nil {
		return err
	}
	average, err := c.LatestAverageWithResponse(ctx, &LatestAverageParams{Symbol: "AAPL", Provider: &yfinance})
	if err := want("latest average", err, err == nil && average.JSON200 != nil && average.JSON200.Window == 5, average); err != nil {
		return err
	}
	created, err := c.CreateJobWithResponse(ctx, &CreateJobParams{}, CreateJobJSONRequestBody{Symbols: []string{"AAPL"}, Provider: &yfinance})
	if err := want("create job", err, err == nil && created.JSON202 != nil, created); err != nil {
		return err
	}
	job, err := c.ShowJobWithResponse(ctx, created.JSON202.JobId)
	if err := want("show job", err, err == nil && job.JSON200 != nil && job.JSON200.Config.Interval == 60, job); err != nil {
		return err
	}
	deleted, err := c.DeleteJobWithResponse(ctx, created.JSON202.JobId)
	if err := want("delete job", err, err == nil && deleted.StatusCode() == http.StatusNoContent, deleted); err != nil {
		return err
	}
	gone, err := c.ShowJobWithResponse(ctx, created.JSON202.JobId)
	if err := want("show a deleted job", err, err == nil && gone.ApplicationproblemJSON404 != nil && gone.ApplicationproblemJSON404.Code == "job_not_found", gone); err != nil {
		return err
	}
	letters, err := c.ListLettersWithResponse(ctx, &ListLettersParams{}, func(_ context.Context, r *http.Request) error {
		r.Header.Set("Authorization", "Bearer "+token)
		return nil
	})
	return want("list letters", err, err == nil && letters.JSON200 != nil && len(letters.JSON200.Messages) > 0, letters)
}
