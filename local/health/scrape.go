package health

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// maxBody bounds what is read of an answer.
const maxBody = 4 << 20

// answer is what a replica said: its metrics, by series with labels; nil if it did not answer.
type answer struct{ metrics map[string]float64 }

func (h *Handler) ask(ctx context.Context, base string, a *answer) {
	body, err := h.request(ctx, base+"/metrics")
	if err != nil {
		return
	}
	defer body.Close() //nolint:errcheck // read
	if metrics, err := parse(body); err == nil {
		a.metrics = metrics
	}
}

// get decodes an answer.
func (h *Handler) get(ctx context.Context, url string, into any) error {
	body, err := h.request(ctx, url)
	if err != nil {
		return err
	}
	defer body.Close() //nolint:errcheck // read
	return json.NewDecoder(body).Decode(into)
}

func (h *Handler) request(ctx context.Context, url string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+h.Token) // only the routes of dead letters read it
	resp, err := cmp.Or(h.Transport, http.DefaultTransport).RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		_ = resp.Body.Close() // not read
		return nil, fmt.Errorf("status %d", resp.StatusCode)
	}
	return struct {
		io.Reader
		io.Closer
	}{io.LimitReader(resp.Body, maxBody), resp.Body}, nil
}

// parse reads Prometheus' text format.
func parse(r io.Reader) (map[string]float64, error) {
	metrics := map[string]float64{}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		series, value, found := cutLast(lines.Text())
		if !found || strings.HasPrefix(series, "#") {
			continue
		}
		if v, err := strconv.ParseFloat(value, 64); err == nil {
			metrics[series] = v
		}
	}
	return metrics, lines.Err()
}

func cutLast(line string) (before, after string, found bool) {
	i := strings.LastIndexByte(line, ' ')
	if i < 0 {
		return line, "", false
	}
	return line[:i], line[i+1:], true
}

// label returns the value of a label of a series with that name, "" if it has another name or no such label. Values with escapes do not
// occur: labels are names of providers, dependencies and windows.
func label(series, name, label string) string {
	labels, found := strings.CutPrefix(series, name+"{")
	if !found {
		return ""
	}
	_, rest, _ := strings.Cut(labels, label+`="`)
	value, _, _ := strings.Cut(rest, `"`)
	return value
}
