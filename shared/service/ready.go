package service

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"marketdata/shared/fault"
)

// Check asks a dependency whether it can be used.
type Check struct {
	Name string
	Ping func(ctx context.Context) error
	// Required: without the dependency the function can answer nothing useful, so that it is not ready. Of the others /readyz says
	// how they are, and the function is ready without them: taking its replicas away would turn a partial outage into a whole one.
	Required bool
	// Reports: the client behind Ping logs its own changes.
	Reports bool
}

const (
	checkWait = 2 * time.Second // for a dependency to answer
	checkAge  = 5 * time.Second // after which a dependency that is not required is asked again, without waiting for it
)

// dependency is a Check with its last result.
type dependency struct {
	Check
	log *slog.Logger

	mu    sync.Mutex
	asked time.Time     // of the last result, or of the request in flight
	done  chan struct{} // of the request in flight; nil: none
	known bool
	err   error
}

// ask asks the dependency, unless a request is in flight or the last result is younger than maxAge, and returns a channel that is closed
// once there is a result. The answer is for everybody who waits, so the request does not end with one of them.
func (d *dependency) ask(maxAge time.Duration) <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.done != nil {
		return d.done
	}
	done := make(chan struct{})
	if d.known && time.Since(d.asked) < maxAge {
		close(done)
		return done
	}
	d.done, d.asked = done, time.Now()
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), checkWait)
		defer cancel()
		d.note(d.Ping(ctx))
		close(done)
	}()
	return done
}

// note keeps a result, and logs it if it differs from the last one.
func (d *dependency) note(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch was := d.err; {
	case d.Reports:
	case err != nil && was == nil:
		d.log.Warn("dependency cannot be used", "dependency", d.Name, "err", err)
	case err == nil && was != nil:
		d.log.Warn("dependency can be used again", "dependency", d.Name)
	}
	d.err, d.known, d.done = err, true, nil
}

// state returns ok, unavailable, read_only, or unknown before the first result. An error's text may name hosts, so it is only logged.
func (d *dependency) state() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case !d.known:
		return "unknown"
	case fault.CodeOf(d.err) == fault.CodeReadOnly:
		return fault.CodeReadOnly
	case d.err != nil:
		return "unavailable"
	}
	return "ok"
}

// Needs adds dependencies that /readyz asks, each with a gauge. Call it before the server runs.
func (s *Service) Needs(checks ...Check) {
	for _, c := range checks {
		d := &dependency{Check: c, log: s.Log}
		s.dependencies = append(s.dependencies, d)
		s.Metrics.NewGauge(fmt.Sprintf("marketdata_dependency_up{dependency=%q}", c.Name), func() float64 {
			if state := d.state(); state == "ok" || state == "unknown" {
				return 1
			}
			return 0
		})
	}
}

// ready answers 200 if the function can answer something useful, which is what its required dependencies decide, and 503 if it cannot,
// or is about to stop. It names every dependency; with ?verbose it asks all of them first, otherwise the required ones.
func (s *Service) ready(w http.ResponseWriter, r *http.Request) {
	timeout := time.NewTimer(checkWait)
	defer timeout.Stop()
	verbose := r.URL.Query().Has("verbose")
	var waits []<-chan struct{}
	for _, d := range s.dependencies {
		if d.Required || verbose {
			waits = append(waits, d.ask(0))
		} else {
			d.ask(checkAge)
		}
	}
wait:
	for _, done := range waits {
		select {
		case <-done:
		case <-timeout.C: // what is known counts
			break wait
		}
	}
	status, answer, named := http.StatusOK, "ready", map[string]string{}
	for _, d := range s.dependencies {
		named[d.Name] = d.state()
		if d.Required && named[d.Name] != "ok" {
			status, answer = http.StatusServiceUnavailable, "not_ready"
		}
	}
	select {
	case <-s.leaving:
		status, answer = http.StatusServiceUnavailable, "stopping"
	default:
	}
	if note := s.noteReady.Load(); note != nil && status == http.StatusOK {
		(*note)()
	}
	writeJSON(w, status, map[string]any{"status": answer, "checks": named})
}

// askAll asks every dependency that has not been asked for a while, without waiting: their gauges are about to be read.
func (s *Service) askAll() {
	for _, d := range s.dependencies {
		d.ask(checkAge)
	}
}
