// Package supervisor runs the functions as separate processes, as a platform does: configured by their environment alone, restarted
// when they crash, stopped by SIGTERM.
package supervisor

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"marketdata/local/console"
	"marketdata/local/process"
	"marketdata/shared/freeport"
)

// Options says what to run.
type Options struct {
	BinDir string                         // folder of the functions' binaries
	Copies map[string]int                 // replicas by function; functions without a binary are skipped
	Order  []string                       // order in which functions start
	Env    []string                       // NAME=value, for all functions
	Own    func(function string) []string // the same for one of them; these win
	Out    *console.Console
}

// stopWait is a little longer than the functions' SHUTDOWN_TIMEOUT.
const stopWait = 10500 * time.Millisecond

// Start starts every replica on a free loopback port, which it keeps across restarts, and returns their URLs by function. stop stops
// all replicas at the same time, returns when they are gone, and kills those that are still running when its context ends. After an
// error nothing is left running.
func Start(ctx context.Context, o Options) (urls map[string][]string, stop func(context.Context), err error) {
	urls = map[string][]string{}
	var replicas []replica
	for _, name := range o.Order {
		if !o.Built(name) {
			continue
		}
		for i := range o.Copies[name] {
			port, err := freeport.Find(ctx)
			if err != nil {
				return nil, nil, err
			}
			urls[name] = append(urls[name], fmt.Sprintf("http://127.0.0.1:%d", port))
			replicas = append(replicas, replica{name, i, port})
		}
	}
	// Every function gets the addresses of the others: dlq-inspector replays to compute-ma.
	o.Env = append(o.Env, Addresses(urls)...)
	var running []*process.Process
	stop = func(ctx context.Context) {
		var wg sync.WaitGroup
		for _, p := range running {
			wg.Go(func() { p.Stop(ctx) })
		}
		wg.Wait()
	}
	for _, r := range replicas {
		p, err := r.start(o)
		if err != nil {
			stop(context.WithoutCancel(ctx))
			return nil, nil, err
		}
		running = append(running, p)
	}
	return urls, stop, nil
}

// Built reports whether there is a binary of a function.
func (o Options) Built(name string) bool {
	_, err := os.Stat(filepath.Join(o.BinDir, name))
	return err == nil
}

// Addresses returns the variables that hold the address of each function.
func Addresses(urls map[string][]string) (env []string) {
	for name, list := range urls {
		env = append(env, Variable(name)+"="+list[0])
	}
	return env
}

// Variable returns the name of the environment variable that holds a function's address.
func Variable(function string) string {
	return strings.ToUpper(strings.ReplaceAll(function, "-", "_")) + "_URL"
}

type replica struct {
	name  string
	index int
	port  int
}

func (r replica) start(o Options) (*process.Process, error) {
	label := r.name
	if o.Copies[r.name] > 1 {
		label += "/" + strconv.Itoa(r.index+1)
	}
	return o.Replica(r.name, label, r.port)
}

// Replica starts one replica of a function on a port.
func (o Options) Replica(name, label string, port int) (*process.Process, error) {
	env := append(append([]string{}, o.Env...), "HOST=127.0.0.1", fmt.Sprint("PORT=", port), "K_SERVICE="+name)
	if o.Own != nil {
		env = append(env, o.Own(name)...)
	}
	return process.Start(process.Options{
		Name: label,
		Command: func() *exec.Cmd {
			cmd := exec.Command(filepath.Join(o.BinDir, name)) //nolint:gosec,noctx // our own build; ended by Stop
			cmd.Env = env
			cmd.Stdout = o.Out.Log(label)
			cmd.Stderr = cmd.Stdout
			return cmd
		},
		StopSignal: syscall.SIGTERM, StopWait: stopWait, Orphan: syscall.SIGKILL, Say: o.Out.Say,
	})
}

// Ready returns once every replica of the functions answers /readyz with 200.
func Ready(ctx context.Context, functions map[string][]string) error {
	client := &http.Client{Timeout: 3 * time.Second}
	for name, urls := range functions {
		for _, u := range urls {
			for !answers(ctx, client, u+"/readyz") {
				select {
				case <-ctx.Done():
					return fmt.Errorf("%s is not ready: see its log above", name)
				case <-time.After(20 * time.Millisecond):
				}
			}
		}
	}
	return nil
}

func answers(ctx context.Context, client *http.Client, url string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	resp, err := client.Do(req)
	if err != nil {
		return false
	}
	_ = resp.Body.Close() // the body is not used
	return resp.StatusCode == http.StatusOK
}
