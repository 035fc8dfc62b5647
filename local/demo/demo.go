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

// Start creates a polling job for each of the exchange's symbols, at the URL of poll, once for a data folder.
func Start(ctx context.Context, dir, poll string, say func(string)) {
	marker := filepath.Join(dir, "demo-jobs")
	if _, err := os.Stat(marker); err == nil {
		return
	}
	for _, symbol := range exchange.New(0, time.Now).Symbols() {
		if err := createJob(ctx, poll, symbol); err != nil {
			say("demo: " + err.Error())
			return
		}
	}
	_ = os.WriteFile(marker, nil, 0o600) // if this fails, the next start sends the same idempotency keys again
	say("demo: polling every symbol of the exchange every 5 s (DEMO=0 turns this off)")
}

func createJob(ctx context.Context, poll, symbol string) error {
	body, err := json.Marshal(map[string]any{"symbols": []string{symbol}, "interval": 5, "provider": "yfinance"})
	if err != nil {
		return fmt.Errorf("create job for %s: %w", symbol, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, poll+"/prices/poll", bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("create job for %s: %w", symbol, err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", "demo-"+symbol)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("create job for %s: %w", symbol, err)
	}
	_ = resp.Body.Close() // the body is not used
	if resp.StatusCode != http.StatusAccepted {
		return fmt.Errorf("create job for %s: status %d", symbol, resp.StatusCode)
	}
	return nil
}
