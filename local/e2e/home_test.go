//go:build integration && browser

package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
	"github.com/stretchr/testify/require"
)

// watchFaults runs before each page: it notes errors of scripts and how far the layout shifted by itself.
const watchFaults = `(() => {
	window.faults = []
	window.shift = 0
	addEventListener("error", (e) => faults.push(e.message))
	addEventListener("unhandledrejection", (e) => faults.push(String(e.reason)))
	addEventListener("securitypolicyviolation", (e) => faults.push("policy: " + e.violatedDirective))
	const error = console.error
	console.error = (...all) => { faults.push(all.join(" ")); error(...all) }
	new PerformanceObserver((list) => list.getEntries().forEach((e) => { if (!e.hadRecentInput) shift += e.value })).observe({ type: "layout-shift", buffered: true })
})()`

// atHome opens the live page of a stack.
func atHome(t *testing.T, s *stack, address string) *browser {
	t.Helper()
	b := newBrowser(t)
	b.devtools(t, "Page.addScriptToEvaluateOnNewDocument", map[string]any{"source": watchFaults})
	b.window(t, 1280, 800, false, "light")
	b.open(t, s.env["GATEWAY_URL"]+address)
	return b
}

// sound fails if a script of the page failed.
func (b *browser) sound(t *testing.T) {
	t.Helper()
	require.Empty(t, b.script(t, `return faults.join("\n")`))
}

// listed returns when the page has rows for so many series.
func (b *browser) listed(t *testing.T, series int) {
	t.Helper()
	b.holds(t, fmt.Sprintf(`document.querySelectorAll("#rows tr").length === %d`, series))
}

const (
	row    = `[...document.querySelectorAll("#rows tr")].find((e) => e.dataset.key === "%s")`
	demoed = 5 // symbols of the demo, each with quotes and daily closes
)

// demoStack is a stack whose closes are stored.
func demoStack(t *testing.T, extra ...string) *stack {
	t.Helper()
	s := start(t, newDir(t), append(extra, "DEMO=1")...)
	s.eventually(t, []string{fmt.Sprint(demoed)}, "select count(*)::text from backfill_series where complete")
	s.eventually(t, []string{fmt.Sprint(2 * demoed)}, "select count(*)::text from price_series where windows is not null")
	s.eventually(t, []string{"0"}, "select count(*)::text from outbox")
	return s
}

// The page has everything that is polled and followed, with prices, currency, change, averages and charts, without asking for the latest
// price. It works under a policy without inline code and does not shift.
func TestHomePage(t *testing.T) {
	t.Parallel()
	s := demoStack(t)
	b := atHome(t, s, "/")
	b.listed(t, 2*demoed)
	b.holds(t, `[...document.querySelectorAll("#rows tr")].every((tr) => tr.querySelector("svg path"))`)
	b.holds(t, fmt.Sprintf(row, "yfinance:AAPL")+`.querySelector(".unit").textContent === "USD"`)
	b.holds(t, fmt.Sprintf(row, "yfinance-1d:AAPL")+`.querySelector(".unit").textContent === "USD"`)
	b.holds(t, `/^[+−±][\d.]+ %$/.test(`+fmt.Sprintf(row, "yfinance-1d:MSFT")+`.querySelector(".change").textContent)`)
	b.holds(t, fmt.Sprintf(row, "yfinance:AAPL")+`.querySelector(".change").title.includes("the daily close of")`)
	b.holds(t, fmt.Sprintf(row, "yfinance:AAPL")+`.querySelector("time").title.endsWith("UTC")`)
	exact := s.rows(t, "select average::text from symbol_averages where symbol = 'AAPL' and provider = 'yfinance-1d' and window_size = 50")[0]
	b.holds(t, fmt.Sprintf(row+`.querySelector(".average-cell").title.startsWith("%s:")`, "yfinance-1d:AAPL", strings.TrimRight(exact, "0")))
	b.holds(t, `/^\d/.test(document.querySelector("#figures .figure strong").textContent)`) // a rate

	before := b.script(t, `return `+fmt.Sprintf(row, "yfinance:AAPL")+`.querySelector(".price").title`)
	b.holds(t, fmt.Sprintf(row+`.querySelector(".price").title !== %q`, "yfinance:AAPL", before)) // by the stream
	require.Equal(t, "0", b.script(t, `return performance.getEntriesByType("resource").filter((e) => e.name.includes("/prices/latest")).length`))
	_, _, header := call(t, http.MethodGet, s.env["GATEWAY_URL"]+"/", "")
	require.NotContains(t, header.Get("Content-Security-Policy"), "unsafe")
	b.holds(t, `shift < 0.1`)
	b.sound(t)

	for expression, want := range map[string]string{
		`m.rounded("1.005", 2)`: "1.01", `m.rounded("1234567.8", 2)`: "1,234,567.80", `m.rounded("0.00001234", 8)`: "0.00001234", `m.rounded("12", 2)`: "12.00",
		`m.rounded("99999999999999999999.995", 2)`: "100,000,000,000,000,000,000.00", `m.rounded("0.5", 0)`: "1",
		`m.percent(100, 101.5).text`: "+1.50 %", `m.percent(100, 99.999).text`: "±0.00 %", `m.percent(1, 3).text`: "+200 %", `m.percent(3, 1).text`: "−66.67 %",
		`m.places("1.5")`: "2", `m.places("0.0000123456")`: "8",
	} {
		require.Equal(t, want, b.module(t, "/page/numbers.js", "return "+expression), expression)
	}

	b.window(t, 390, 844, true, "dark")
	b.holds(t, `document.documentElement.scrollWidth <= 390`)
	b.click(t, `#rows tr[data-key="yfinance-1d:AAPL"]`)
	b.holds(t, `document.querySelector("#chart .average")`)
	b.holds(t, `document.documentElement.scrollWidth <= 390`)
	b.sound(t)
}

// One tab fetches for all, so that many tabs stay far below the limit of 1200 requests a minute.
func TestTabsOfTheHomePageShare(t *testing.T) {
	t.Parallel()
	s := demoStack(t)
	b := atHome(t, s, "/")
	var windows []string
	for range 4 {
		var opened struct{ Handle string }
		require.NoError(t, json.Unmarshal(b.ask(t, http.MethodPost, "/window/new", map[string]string{"type": "window"}), &opened))
		b.ask(t, http.MethodPost, "/window", map[string]string{"handle": opened.Handle})
		b.open(t, s.env["GATEWAY_URL"]+"/")
		b.listed(t, 2*demoed)
		windows = append(windows, opened.Handle)
	}
	began := time.Now()
	prices := func() string { return b.script(t, `return document.querySelector("#rows .price").title`) }
	for first := prices(); time.Since(began) < 12*time.Second || prices() == first; {
		b.holds(t, `document.getElementById("fresh").textContent`)
	}
	requests := 0
	for _, w := range windows {
		b.ask(t, http.MethodPost, "/window", map[string]string{"handle": w})
		var n int
		_, err := fmt.Sscan(b.script(t, `return performance.getEntriesByType("resource").filter((e) => /averages|prices|health/.test(e.name)).length`), &n)
		require.NoError(t, err)
		requests += n
	}
	require.LessOrEqual(t, requests, 4*(5+2*demoed), "each tab loads once: the list, jobs, backfills, the health twice, and a chart for each row")
}

// With a function away the page has no errors, says which one it is, and shows what is left. It recovers by itself.
func TestHomePageWithoutAFunction(t *testing.T) {
	t.Parallel()
	s := demoStack(t)
	b := atHome(t, s, "/?series=yfinance-1d:AAPL")
	signal := func(name string, signal syscall.Signal) {
		t.Helper()
		for _, pid := range s.pids(t, name) {
			require.NoError(t, syscall.Kill(pid, signal))
		}
	}
	for name, says := range map[string]string{
		"get-latest": "there are no charts", "poll": "nothing is polled", "compute-ma": "prices and averages stand still",
		"dlq-inspector": "dead letters cannot be counted",
	} {
		b.listed(t, 2*demoed)
		b.holds(t, `document.getElementById("state").textContent === "Every function answers."`)
		b.sound(t)
		signal(name, syscall.SIGSTOP) // hangs
		b.shows(t, "#state", name+" is away: "+says)
		b.listed(t, 2*demoed)
		b.open(t, s.env["GATEWAY_URL"]+"/?series=yfinance-1d:AAPL")
		b.shows(t, "#state", name+" is away: "+says)
		if name == "compute-ma" {
			b.holds(t, `document.querySelector("#rows tr .warn")?.textContent === "no price yet"`) // jobs say what there is
		} else {
			b.listed(t, 2*demoed)
		}
		b.sound(t)
		signal(name, syscall.SIGCONT)
		b.holds(t, `document.getElementById("state").textContent === "Every function answers."`)
		signal(name, syscall.SIGKILL) // and starts again
		b.holds(t, `[...document.querySelectorAll("#rows .price")].every((e) => e.title !== "No price yet")`)
	}
	b.sound(t)
	s.stop(t)
	b.shows(t, "#state", "The server cannot be reached")
	b.listed(t, 2*demoed)
	b.sound(t)
}

// The page is honest: stale, incomplete, adjusting and paused series say so, hostile names are text, and a new series never moves a row.
func TestHomePageIsHonest(t *testing.T) {
	t.Parallel()
	s := demoStack(t, "COPIES=compute-ma=2")
	const hostile = `<img src=x onerror=faults.push(1)>`
	s.rows(t, `insert into price_points (symbol, provider, observed_at, price, raw_response_id)
		select $1, 'e2e', now() - i * interval '1 hour', 1e17 + i, gen_random_uuid() from generate_series(0, 9) i`, hostile)
	s.rows(t, `insert into price_series (symbol, provider, windows, averages, oldest, points, as_of)
		values ($1, 'e2e', '{5,50}', '{100000000000000001.5,100000000000000004.5}', array[now() - interval '9 h', now() - interval '9 h'], 10, now())`, hostile)
	s.rows(t, `update bar_series set since = 'ffffffff-0000-7000-8000-000000000000' where symbol = 'IBM'`)
	s.rows(t, `update polling_jobs set status = 'paused' where symbols = '{MSFT}'`)
	s.fault(t, "GOOG", "error_5xx", 0, 0)
	s.eventually(t, []string{"1"}, "select count(*)::text from polling_series where symbol = 'GOOG' and code is not null")
	// Its last quotes may still wait behind the closes: one that arrives later must not make the series fresh again.
	s.rows(t, `create function stays_old() returns trigger language plpgsql as 'begin new.as_of := now() - interval ''1 h''; return new; end'`)
	s.rows(t, `create trigger stays_old before update on price_series for each row when (new.symbol = 'GOOG' and new.provider = 'yfinance') execute function stays_old()`)
	s.rows(t, `update price_series set as_of = as_of where symbol = 'GOOG' and provider = 'yfinance'`)

	b := atHome(t, s, "/?window=50")
	b.listed(t, 2*demoed+1)
	b.holds(t, fmt.Sprintf(row, "yfinance-1d:IBM")+`.querySelector(".badges").textContent.includes("adjusting")`)
	b.holds(t, fmt.Sprintf(row, "yfinance:MSFT")+`.querySelector(".badges").textContent.includes("paused")`)
	b.holds(t, fmt.Sprintf(row, "yfinance:GOOG")+`.querySelector(".badges").textContent.includes("stale")`)
	b.holds(t, `document.getElementById("rows").textContent.includes("<img src=x")`)
	b.holds(t, `[...document.querySelectorAll("#rows .pill")].some((e) => e.textContent === "10 of 50")`)
	b.holds(t, `[...document.querySelectorAll("#rows .average-cell")].some((e) => e.title.startsWith("100000000000000004.5:"))`) // every digit
	b.click(t, "#attention")
	b.holds(t, fmt.Sprintf(row, "yfinance-1d:IBM"))
	b.holds(t, `!`+fmt.Sprintf(row, "yfinance-1d:AAPL"))
	b.click(t, "#attention")
	b.listed(t, 2*demoed+1)

	order := `return [...document.querySelectorAll("#rows tr")].map((e) => e.dataset.key).join()`
	before := b.script(t, order)
	status, body, _ := call(t, http.MethodGet, s.env["GATEWAY_URL"]+"/prices/latest?symbol=AAPL&provider=finnhub", "")
	require.Equal(t, http.StatusOK, status, string(body))
	b.shows(t, "#news", "Show 1 new series")
	require.Equal(t, before, b.script(t, order))
	b.click(t, "#news")
	b.listed(t, 2*demoed+2)
	b.sound(t)
}

// Each control is pressed here, and does what it should; filters and the open series are in the address, and back works.
func TestEveryControlOfTheHomePageIsPressed(t *testing.T) {
	t.Parallel()
	s := demoStack(t)
	s.rows(t, `insert into price_series (symbol, provider, windows, averages, oldest, points, as_of, newest)
		select 'S' || i, 'e2e', windows, averages, oldest, points, as_of, newest from price_series, generate_series(1, 200) i
		where symbol = 'AAPL' and provider = 'yfinance'`)
	b := atHome(t, s, "/")
	b.devtools(t, "Page.addScriptToEvaluateOnNewDocument", map[string]any{"source": watchControls})
	b.open(t, s.env["GATEWAY_URL"]+"/")
	b.listed(t, 200)
	address := func(part string) {
		t.Helper()
		b.holds(t, fmt.Sprintf(`decodeURIComponent(location.search).includes(%q)`, part))
	}

	b.press(t, keyTab)
	b.click(t, ".skip")
	b.holds(t, `document.activeElement.id === "main"`)
	b.click(t, "#more")
	b.listed(t, 2*demoed+200)
	for _, kind := range []string{"quotes", "bars", "all"} {
		b.click(t, fmt.Sprintf("[data-kind=%s]", kind))
		b.holds(t, fmt.Sprintf(`document.querySelector("[data-kind=%s]").ariaPressed === "true"`, kind))
		if kind != "all" {
			address("kind=" + kind)
		}
	}
	b.write(t, "#q", "aap")
	b.listed(t, 2)
	address("q=aap")
	b.script(t, `const e = document.getElementById("window"); e.value = "5"; e.dispatchEvent(new Event("change", { bubbles: true }))`)
	address("window=5")
	b.shows(t, "#average-head", "SMA 5")
	// A row that is shown stays until the filter changes, so AAPL must have its five quotes before.
	b.holds(t, `!document.querySelector("#rows .pill")`)
	b.click(t, "#attention")
	address("attention=1")
	b.shows(t, "#nothing", "No series matches")
	b.script(t, `history.back()`)
	b.listed(t, 2)
	b.holds(t, `!document.getElementById("attention").checked`)

	b.clickOn(t, "#rows a", "AAPL")
	address("series=yfinance:AAPL")
	b.holds(t, `document.activeElement.id === "panel"`)
	for _, text := range []string{"1 H", "1 D", "All"} {
		b.clickOn(t, "#ranges button", text)
		b.holds(t, `document.querySelector("#chart .line")`)
	}
	b.script(t, `history.back()`)
	b.holds(t, `document.getElementById("panel").hidden`)
	b.script(t, `history.forward()`)
	b.holds(t, `document.querySelector("#chart .line")`)
	b.click(t, "#close-panel")
	b.holds(t, `document.activeElement.closest("#rows")`)
	b.open(t, s.env["GATEWAY_URL"]+"/?series=yfinance-1d:AAPL&range=all&window=50") // a link of a colleague
	b.holds(t, `document.getElementById("legend")?.textContent.includes("points")`)
	points := s.rows(t, "select to_char(count(*), 'FM9,999') from price_points where symbol = 'AAPL' and provider = 'yfinance-1d'")[0]
	b.shows(t, "#legend", points+" points")
	for _, text := range []string{"1 M", "1 Y", "All"} {
		b.clickOn(t, "#ranges button", text)
		b.holds(t, fmt.Sprintf(`[...document.querySelectorAll("#ranges button")].find((e) => e.textContent === %q).ariaPressed === "true"`, text))
	}
	b.shows(t, "#legend", points+" points")
	last := b.script(t, `return document.getElementById("readout").textContent`)
	require.Contains(t, last, "SMA 50")
	b.click(t, "#scrub")
	b.press(t, "\uE012\uE012") // left
	b.holds(t, fmt.Sprintf(`document.getElementById("readout").textContent !== %q && document.getElementById("scrub").ariaValueText.includes("USD")`, last))
	b.click(t, "#points summary")
	b.holds(t, `document.querySelectorAll("#points-body tbody tr").length === 100`)
	exact := s.rows(t, "select price::text from price_points where symbol = 'AAPL' and provider = 'yfinance-1d' order by observed_at desc limit 1")[0]
	b.shows(t, "#points-body tbody tr td", exact)
	b.press(t, keyEscape)
	b.holds(t, `document.getElementById("panel").hidden`)
	b.sound(t)

	status, body, _ := call(t, http.MethodGet, s.env["GATEWAY_URL"]+"/prices/latest?symbol=AAPL&provider=finnhub", "")
	require.Equal(t, http.StatusOK, status, string(body))
	b.click(t, "#news")
	b.holds(t, fmt.Sprintf(row, "finnhub:AAPL"))
	b.clickOn(t, "h1 a", "Market data")
	b.clickOn(t, "nav a", "Live")
	b.listed(t, 200)
	b.sound(t)
	require.Equal(t, []string{"#dead-letters", "#documentation", "health: N", "list: API documentation"},
		unpressed(b.kept(t, "seen"), b.kept(t, "pressed")), "but for links to other pages, everything is pressed")
	for _, link := range []struct{ selector, path string }{{"#dead-letters", "/dlq"}, {"#documentation", "/docs/"}, {"#figures a", "/dlq"}} {
		b.open(t, s.env["GATEWAY_URL"]+"/")
		b.click(t, link.selector)
		b.holds(t, fmt.Sprintf(`location.pathname === %q`, link.path))
	}
}

// Every view of the live page is accessible. SCREENSHOTS names a folder for pictures.
func TestEveryViewOfTheLivePageIsAccessible(t *testing.T) {
	t.Parallel()
	script, screenshots := axe(t), os.Getenv("SCREENSHOTS") //nolint:forbidigo // for whoever wants to look
	empty := start(t, newDir(t))
	b := atHome(t, empty, "/")
	b.look(t, script, screenshots, empty.env["GATEWAY_URL"], []int{390, 1280, 3840}, []view{
		{"live-empty", "/", `document.getElementById("empty").checkVisibility()`, "", ""},
	})
	s := demoStack(t)
	s.produce(t, &kafka.Message{Value: []byte(badPrice("EVIL", "x"))}, &kafka.Message{Value: []byte("not JSON")})
	s.eventually(t, []string{"2"}, "select count(*)::text from dead_letters")
	s.rows(t, `update bar_series set since = 'ffffffff-0000-7000-8000-000000000000' where symbol = 'IBM'`)
	s.rows(t, `update polling_jobs set status = 'paused' where symbols = '{MSFT}'`)
	const charts = `document.querySelectorAll("#rows svg path").length >= 4`
	b.look(t, script, screenshots, s.env["GATEWAY_URL"], []int{390, 1280, 3840}, []view{
		{"live", "/", charts, "", ""},
		{"live-nothing", "/?q=no-such-series", `document.getElementById("nothing").checkVisibility()`, "", ""},
		{"live-attention", "/?attention=1&kind=bars", `document.querySelector("#rows svg path")`, "", ""},
		{"live-bars", "/?series=yfinance-1d:AAPL&range=all&window=50", `document.querySelector("#chart .average")`, "", ""},
		{"live-quotes", "/?series=yfinance:GOOG&range=hour&window=5", `document.querySelector("#chart .line")`, "", ""},
		{
			"live-table", "/?series=yfinance-1d:AAPL&range=year&window=20", `document.querySelector("#chart .average")`,
			`document.getElementById("points").open = true`, `document.querySelector("#points-body td")`,
		},
	})
	for _, name := range []string{"compute-ma", "poll"} {
		for _, pid := range s.pids(t, name) {
			require.NoError(t, syscall.Kill(pid, syscall.SIGSTOP))
			t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGCONT) }) // so that it can stop
		}
	}
	b.look(t, script, screenshots, s.env["GATEWAY_URL"], []int{390, 1280, 3840}, []view{
		{"live-away", "/", `document.getElementById("nothing").textContent.includes("cannot be read right now")`, "", ""},
	})
	b.sound(t)
}

// With SCALE_TO_ZERO the page shows how the functions sleep and wake, and neither wakes them nor keeps them awake by watching.
func TestHomePageOfSleepingFunctions(t *testing.T) {
	t.Parallel()
	s := start(t, newDir(t), "SCALE_TO_ZERO=1s")
	b := atHome(t, s, "/")
	b.shows(t, "#empty", "No prices yet")
	b.shows(t, "#functions", "dlq-inspector")
	b.shows(t, "#functions", "cold start")
	b.holds(t, `[...document.querySelectorAll("#functions li")].some((e) => e.textContent.includes("get-latest") && e.textContent.includes("asleep"))`)
	b.holds(t, `[...document.querySelectorAll("#functions li")].some((e) => e.textContent.includes("compute-ma") && e.textContent.includes("asleep"))`)
	b.window(t, 390, 844, true, "light")
	b.holds(t, `document.documentElement.scrollWidth <= innerWidth`)
	b.sound(t)
}
