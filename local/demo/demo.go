// Package demo fills a new system with prices that change, for the page.
package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"marketdata/local/exchange"
)

// Start creates a polling job for each of the exchange's symbols, and a backfill of their daily closes, at the URL of poll, once for a
// data folder.
func Start(ctx context.Context, dir, poll string, say func(string)) {
	marker := filepath.Join(dir, "demo-jobs")
	if _, err := os.Stat(marker); err == nil {
		return
	}
	symbols := exchange.New(0, time.Now).Symbols()
	for _, symbol := range symbols {
		if err := create(ctx, poll+"/prices/poll", "demo-"+symbol, map[string]any{"symbols": []string{symbol}, "interval": 5, "provider": "yfinance"}); err != nil {
			say("demo: " + err.Error())
			return
		}
	}
	history := map[string]any{"symbols": symbols, "interval": "1d", "start": "2000-01-01", "provider": "yfinance"}
	if err := create(ctx, poll+"/prices/backfill", "demo-history", history); err != nil {
		say("demo: " + err.Error())
		return
	}
	_ = os.WriteFile(marker, nil, 0o600) // if this fails, the next start sends the same idempotency keys again
	say("demo: polling every symbol of the exchange every 5 s, and fetching its daily closes since 2000 (DEMO=0 turns this off)")
}

// create posts a request, which the key makes repeatable.
func create(ctx context.Context, url, key string, request map[string]any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return fmt.Errorf("create %s: %w", key, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("create %s: %w", key, err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", key)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("create %s: %w", key, err)
	}
	_ = resp.Body.Close() // the body is not used
	if resp.StatusCode != http.StatusAccepted {
		return fmt.Errorf("create %s: status %d", key, resp.StatusCode)
	}
	return nil
}
