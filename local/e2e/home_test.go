//go:build integration && browser

package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The live page shows date and time zone, works under a content security policy without inline code, and sends so few requests that
// many tabs stay far below the limit of 1200 per minute, which it shares with the operators' page.
func TestHomePage(t *testing.T) {
	t.Parallel()
	s := start(t, newDir(t), "DEMO=1")
	b := newBrowser(t)
	b.window(t, 390, 844, true, "dark")
	b.open(t, s.env["GATEWAY_URL"]+"/")
	b.shows(t, "#rows", "MSFT")
	b.holds(t, `/\d{4}-\d\d-\d\d \d\d:\d\d:\d\d/.test(document.querySelector("#rows td:last-child").textContent)`)
	b.shows(t, "main", "Times are UTC")
	b.holds(t, `document.documentElement.scrollWidth <= 390`)
	_, _, header := call(t, http.MethodGet, s.env["GATEWAY_URL"]+"/", "")
	require.NotContains(t, header.Get("Content-Security-Policy"), "unsafe")

	began := time.Now()
	var windows []string
	for range 4 {
		var opened struct{ Handle string }
		require.NoError(t, json.Unmarshal(b.ask(t, http.MethodPost, "/window/new", map[string]string{"type": "window"}), &opened))
		b.ask(t, http.MethodPost, "/window", map[string]string{"handle": opened.Handle})
		b.open(t, s.env["GATEWAY_URL"]+"/")
		windows = append(windows, opened.Handle)
	}
	for time.Since(began) < 15*time.Second { // three periods of the page
		b.shows(t, "#state", "Updated")
		b.holds(t, `document.querySelector("#rows td").textContent !== "–"`)
	}
	requests := 0
	for _, w := range windows {
		b.ask(t, http.MethodPost, "/window", map[string]string{"handle": w})
		var n int
		_, err := fmt.Sscan(b.script(t, `return performance.getEntriesByType("resource").filter((e) => e.name.includes("/averages/")).length`), &n)
		require.NoError(t, err)
		requests += n
	}
	require.LessOrEqual(t, requests, 80, "one tab fetches for all: at most 15 requests in five seconds, however many tabs there are")
}

// With SCALE_TO_ZERO the page shows how the functions sleep and wake.
func TestHomePageOfSleepingFunctions(t *testing.T) {
	t.Parallel()
	s := start(t, newDir(t), "SCALE_TO_ZERO=1s")
	b := newBrowser(t)
	b.window(t, 390, 844, true, "light")
	b.open(t, s.env["GATEWAY_URL"]+"/")
	b.shows(t, "#functions", "dlq-inspector")
	b.holds(t, `document.querySelector("#functions tr.asleep th").textContent !== ""`)
	b.holds(t, `Number(document.querySelector("#functions td:nth-child(5)").textContent) > 0`)
	b.holds(t, `document.documentElement.scrollWidth <= 390`)
}
