//go:build integration && browser

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"marketdata/shared/testenv"
)

// browser controls Chromium over the W3C WebDriver protocol.
type browser struct{ session string }

func newBrowser(t *testing.T) *browser {
	t.Helper()
	// Not t.TempDir: Chromium's processes still write for a moment after the session has ended.
	profile, err := os.MkdirTemp("", "marketdata-chromium-") //nolint:usetesting // see above
	require.NoError(t, err)
	t.Cleanup(func() {
		require.Eventually(t, func() bool { return os.RemoveAll(profile) == nil }, 20*time.Second, 50*time.Millisecond)
	})
	path, err := exec.LookPath("chromedriver")
	require.NoError(t, err, "no chromedriver: install Chromium and its driver (Debian: apt-get install chromium-driver)")
	port := testenv.FreePort(t)
	driver := exec.Command(path, fmt.Sprint("--port=", port))
	require.NoError(t, driver.Start())
	b := &browser{session: fmt.Sprintf("http://127.0.0.1:%d/session", port)}
	t.Cleanup(func() {
		b.ask(t, http.MethodDelete, "", nil)
		require.NoError(t, driver.Process.Kill())
		require.Error(t, driver.Wait(), "killed")
	})
	require.Eventually(t, func() bool {
		resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/status", port))
		return err == nil && resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
	}, 20*time.Second, 20*time.Millisecond)
	var made struct{ SessionID string }
	require.NoError(t, json.Unmarshal(b.ask(t, http.MethodPost, "", map[string]any{"capabilities": map[string]any{"alwaysMatch": map[string]any{
		"goog:chromeOptions": map[string]any{"args": []string{
			"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
			"--disable-component-update", "--disable-sync", "--user-data-dir=" + profile,
		}},
	}}}), &made))
	b.session += "/" + made.SessionID
	return b
}

// ask sends a command and returns its value.
func (b *browser) ask(t *testing.T, method, command string, body any) json.RawMessage {
	t.Helper()
	value, err := b.tryAsk(method, command, body)
	require.NoError(t, err, command)
	return value
}

func (b *browser) tryAsk(method, command string, body any) (json.RawMessage, error) {
	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		content = bytes.NewReader(text)
	}
	req, err := http.NewRequest(method, b.session+command, content)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close() //nolint:errcheck // read whole
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %d: %.300s", resp.StatusCode, answer)
	}
	var v struct{ Value json.RawMessage }
	return v.Value, json.Unmarshal(answer, &v)
}

func (b *browser) open(t *testing.T, url string) {
	t.Helper()
	b.ask(t, http.MethodPost, "/url", map[string]string{"url": url})
}

// element returns the path of the first element that matches a selector.
func (b *browser) element(selector string) (path string, err error) {
	value, err := b.tryAsk(http.MethodPost, "/element", map[string]string{"using": "css selector", "value": selector})
	if err != nil {
		return "", err
	}
	var found map[string]string
	err = json.Unmarshal(value, &found)
	for _, id := range found {
		path = "/element/" + id
	}
	return path, err
}

// click waits until an element can be clicked, and clicks it.
func (b *browser) click(t *testing.T, selector string) {
	t.Helper()
	var err error
	defer func() {
		if t.Failed() {
			t.Log(err)
		}
	}()
	require.Eventually(t, func() bool {
		var path string
		if path, err = b.element(selector); err == nil {
			_, err = b.tryAsk(http.MethodPost, path+"/click", map[string]any{})
		}
		return err == nil
	}, 20*time.Second, 20*time.Millisecond, "%s", selector)
}

// write waits until an element accepts text, and types into it.
func (b *browser) write(t *testing.T, selector, text string) {
	t.Helper()
	var err error
	defer func() {
		if t.Failed() {
			t.Log(err)
		}
	}()
	require.Eventually(t, func() bool {
		var path string
		if path, err = b.element(selector); err == nil {
			_, err = b.tryAsk(http.MethodPost, path+"/value", map[string]string{"text": text})
		}
		return err == nil
	}, 20*time.Second, 20*time.Millisecond, "%s", selector)
}

// press sends keys to the focused element.
func (b *browser) press(t *testing.T, keys string) {
	t.Helper()
	var actions []map[string]string
	for _, k := range keys {
		actions = append(actions, map[string]string{"type": "keyDown", "value": string(k)}, map[string]string{"type": "keyUp", "value": string(k)})
	}
	b.ask(t, http.MethodPost, "/actions", map[string]any{"actions": []any{map[string]any{"type": "key", "id": "keyboard", "actions": actions}}})
}

// WebDriver codes of keys.
const (
	keyTab    = "\uE004"
	keyEnter  = "\uE007"
	keyEscape = "\uE00C"
	keySpace  = " "
)

// holds waits until a JavaScript expression is true.
func (b *browser) holds(t *testing.T, expression string) {
	t.Helper()
	var last string
	require.Eventually(t, func() bool {
		last = b.script(t, "return String(Boolean("+expression+"))")
		return last == "true"
	}, 20*time.Second, 20*time.Millisecond, "%s", expression)
}

// window sets the page's size, touch support and colour scheme, to emulate a phone or a desktop.
func (b *browser) window(t *testing.T, width, height int, phone bool, scheme string) {
	t.Helper()
	b.devtools(t, "Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone})
	b.devtools(t, "Emulation.setTouchEmulationEnabled", map[string]any{"enabled": phone})
	b.devtools(t, "Emulation.setEmulatedMedia", map[string]any{"features": []any{map[string]string{"name": "prefers-color-scheme", "value": scheme}}})
}

func (b *browser) devtools(t *testing.T, command string, params any) {
	t.Helper()
	b.ask(t, http.MethodPost, "/goog/cdp/execute", map[string]any{"cmd": command, "params": params})
}

// module runs a function body with a module as m: of the page of dead letters, or with its whole path.
func (b *browser) module(t *testing.T, name, body string) string {
	t.Helper()
	if !strings.HasPrefix(name, "/") {
		name = "/dlq/page/" + name
	}
	script := fmt.Sprintf(`const done = arguments[0]; import("%s").then(async (m) => { %s }).then(done, (e) => done("failed: " + e.message))`, name, body)
	var v any
	require.NoError(t, json.Unmarshal(b.ask(t, http.MethodPost, "/execute/async", map[string]any{"script": script, "args": []any{}}), &v))
	return fmt.Sprint(v)
}

// shows waits until the visible text of an element contains text.
func (b *browser) shows(t *testing.T, selector, text string) {
	t.Helper()
	var last string
	require.Eventually(t, func() bool {
		path, err := b.element(selector)
		if err != nil {
			return false
		}
		value, err := b.tryAsk(http.MethodGet, path+"/text", nil)
		if err != nil || json.Unmarshal(value, &last) != nil {
			return false
		}
		return strings.Contains(last, text)
	}, 20*time.Second, 20*time.Millisecond, "%s has no %q", selector, text)
}

func (b *browser) property(t *testing.T, selector, name string) string {
	t.Helper()
	path, err := b.element(selector)
	require.NoError(t, err)
	var v any
	require.NoError(t, json.Unmarshal(b.ask(t, http.MethodGet, path+"/property/"+name, nil), &v))
	return fmt.Sprint(v)
}

func (b *browser) script(t *testing.T, text string) string {
	t.Helper()
	var v any
	require.NoError(t, json.Unmarshal(b.ask(t, http.MethodPost, "/execute/sync", map[string]any{"script": text, "args": []any{}}), &v))
	return fmt.Sprint(v)
}
