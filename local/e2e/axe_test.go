//go:build integration && browser

package e2e

import (
	"archive/tar"
	"cmp"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"marketdata/shared/testenv"
)

// axePackage checks pages for faults of accessibility: WCAG 2.2 A and AA, and what is good practice beyond them.
const axePackage = "axe-core@4.14.1"

// axe returns the script, from npm.
func axe(t *testing.T) string {
	t.Helper()
	npm := testenv.Installed(t, "npm", "npm")
	dir := t.TempDir()
	pack := exec.CommandContext(t.Context(), npm, "pack", "--silent", axePackage)
	pack.Dir = dir
	name, err := pack.Output()
	require.NoError(t, err, "npm pack %s", axePackage)
	file, err := os.Open(filepath.Join(dir, strings.TrimSpace(string(name))))
	require.NoError(t, err)
	defer file.Close() //nolint:errcheck // read
	unzipped, err := gzip.NewReader(file)
	require.NoError(t, err)
	for files := tar.NewReader(unzipped); ; {
		header, err := files.Next()
		require.NotErrorIs(t, err, io.EOF, "the package has no axe.min.js")
		require.NoError(t, err)
		if header.Name == "package/axe.min.js" {
			script, err := io.ReadAll(files)
			require.NoError(t, err)
			return string(script)
		}
	}
}

// Every view of the page of dead letters is accessible. SCREENSHOTS names a folder for pictures.
func TestEveryViewIsAccessible(t *testing.T) {
	t.Parallel()
	script, screenshots := axe(t), os.Getenv("SCREENSHOTS") //nolint:forbidigo // for whoever wants to look
	hostile := strings.Replace(badPrice("EVIL", "x"), `"source"`, `"note":"<b>\u202E bidi</b>","source"`, 1)
	s, b := atPage(t, hostile, badPrice("GOOD", "1"), badPrice("GOOD", "2"), "not JSON", "{}")
	id := s.rows(t, `select id::text from dead_letters where symbol = 'EVIL'`)[0]
	work := func(path, order string) string {
		status, body, _ := call(t, http.MethodPost, s.env["GATEWAY_URL"]+path, order,
			"Authorization", "Bearer "+s.env["DLQ_TOKEN"], "Content-Type", "application/json")
		require.Equal(t, http.StatusAccepted, status, string(body))
		var made struct{ ID string }
		require.NoError(t, json.Unmarshal(body, &made))
		return made.ID
	}
	plan := work("/dlq/replays", `{"dry_run":true,"transform":".price |= tonumber"}`)
	discard := work("/dlq/discards", `{"dry_run":true,"filter":{},"reason":"known"}`)
	running := work("/dlq/replays", `{"dry_run":true,"reason":"slowly"}`)
	s.eventually(t, []string{"3"}, "select count(*)::text from dead_letter_replays where status = 'completed'")
	require.Empty(t, s.rows(t, `update dead_letter_replays set status = 'running', dry_run = false, finished_at = null, trouble = 'the function gave no verdict',
		outcomes = '{"resolved": 2}', lease_expires_at = now() + interval '1 hour' where id = $1`, running))

	const press = `document.getElementById("%s").click();`
	b.look(t, script, screenshots, s.env["GATEWAY_URL"], []int{390, 1280, 2560}, []view{
		{"causes", "/dlq", `document.querySelector("#causes .spark")`, "", ""},
		{"letters", "/dlq?view=letters", `document.querySelector("#list .row")`, "", ""},
		{"nothing", "/dlq?view=letters&q=no-such-text", `!document.getElementById("nothing").hidden`, "", ""},
		{"letter", "/dlq?view=letters&letter=" + id, `document.querySelector(".facts")`, "", ""},
		{"editor", "/dlq?view=letters&letter=" + id, `document.querySelector("#tab-edit")`, `document.querySelector("#tab-edit").click()`, ""},
		{"replays", "/dlq?view=replays", `document.querySelector("#replays .replay")`, "", ""},
		{"selection", "/dlq?view=letters", `document.querySelector("#list .row")`, fmt.Sprintf(press, "select-all"), ""},
		{"replay-dialog", "/dlq?view=letters", `document.querySelector("#list .row")`, fmt.Sprintf(press, "replay-matching"), ""},
		{"transform-error", "/dlq?view=letters", `document.querySelector("#list .row")`, fmt.Sprintf(press, "replay-matching") +
			`document.getElementById("bulk-transform").value = ".price |="; ` + fmt.Sprintf(press, "bulk-plan"), `document.getElementById("transform-error").textContent`},
		{"plan", "/dlq?view=replays&work=" + plan, `document.querySelector(".verdict-list li")`, "", ""},
		{"plan-end", "/dlq?view=replays&work=" + plan, `document.querySelector(".verdict-list li")`, `document.getElementById("bulk-body").scrollTop = 1e6`, ""},
		{"running", "/dlq?view=replays&work=" + running, `document.querySelector("#bulk-progress .verdicts")`, "", ""},
		{"discard-dialog", "/dlq?view=letters", `document.querySelector("#list .row")`, fmt.Sprintf(press, "discard-matching"), ""},
		{"discard-plan", "/dlq?view=replays&work=" + discard, `document.querySelector(".verdict-list li")`, "", ""},
		{"shortcuts", "/dlq", `document.querySelector("#causes .spark")`, `document.getElementById("help-dialog").showModal()`, ""},
		{"sign-in", "/dlq", `document.querySelector("#causes .spark")`, `document.getElementById("sign-out").click()`, ""}, // the last: it signs out
	})
	b.script(t, `document.body.append(document.createElement("img"))`)
	require.Contains(t, b.violations(t, script), "image-alt", "the check itself works")
}

// view is a state of a page: an address, when it is ready, a script that then changes it, and when that shows.
type view struct{ name, url, ready, then, shown string }

// look checks every view on a phone in the light scheme and on a desktop in the dark one, and that it does not scroll sideways. With a
// folder for screenshots it takes pictures of all widths, the last of which is a large screen's, in both schemes.
func (b *browser) look(t *testing.T, script, screenshots, base string, widths []int, views []view) {
	t.Helper()
	heights := map[int]int{390: 844, 1280: 800}
	for _, view := range views {
		for i, width := range widths {
			for _, scheme := range []string{"light", "dark"} {
				name := fmt.Sprintf("%s-%d-%s", view.name, width, scheme)
				checked := (scheme == "light") == (width == 390) && i < len(widths)-1 // each layout and each scheme once
				if !checked && screenshots == "" {
					continue
				}
				b.window(t, width, cmp.Or(heights[width], width*9/16), width < 500, scheme)
				if view.name != "sign-in" || width == 390 && scheme == "light" {
					b.open(t, base+view.url)
					b.holds(t, view.ready)
					b.script(t, view.then)
					b.holds(t, cmp.Or(view.shown, "true"))
				}
				b.holds(t, `document.documentElement.scrollWidth <= innerWidth`)
				b.screenshot(t, screenshots, name)
				if checked {
					require.Empty(t, b.violations(t, script), name)
				}
			}
		}
	}
}

// violations returns what axe finds on the page.
func (b *browser) violations(t *testing.T, script string) (found string) {
	t.Helper()
	b.script(t, script+"; return ''")
	value := b.ask(t, http.MethodPost, "/execute/async", map[string]any{"args": []any{}, "script": `
		const done = arguments[0]
		axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] })
			.then((r) => done(r.violations.map((v) => v.id + ": " + v.nodes.map((n) => n.html + " " + n.failureSummary).join(" | ")).join("\n")), (e) => done(String(e)))`})
	require.NoError(t, json.Unmarshal(value, &found))
	return found
}

// screenshot writes a picture of the window to a folder, if there is one.
func (b *browser) screenshot(t *testing.T, dir, name string) {
	t.Helper()
	if dir == "" {
		return
	}
	var picture string
	require.NoError(t, json.Unmarshal(b.ask(t, http.MethodGet, "/screenshot", nil), &picture))
	png, err := base64.StdEncoding.DecodeString(picture)
	require.NoError(t, err)
	require.NoError(t, os.MkdirAll(dir, 0o750))
	require.NoError(t, os.WriteFile(filepath.Join(dir, name+".png"), png, 0o600))
}
