// Local runs the whole system on one machine: backing services, the four functions as separate processes, the event sources of a
// Knative cluster, fake price providers, and a gateway.
//
//	local                          run everything until Ctrl-C
//	local incident                 play an incident on the running stack
//	local load [-short] [ROW…]     load-test a system of its own
//	local chaos [-seed N] …        break a system of its own in all ways, and check that nothing is lost
//	local exec [-durable] -- CMD   run CMD with throw-away services, and exit with its status
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"marketdata/shared/service"
)

func main() {
	service.TuneGC(400)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	var err error
	switch args := os.Args[1:]; {
	case len(args) > 1 && args[0] == "exec":
		err = execute(ctx, args[1:])
	case len(args) == 1 && args[0] == "incident":
		err = playIncident(ctx)
	case len(args) > 0 && args[0] == "load":
		err = measure(ctx, args[1:])
	case len(args) > 0 && args[0] == "chaos":
		err = playChaos(ctx, args[1:])
	default:
		err = run(ctx, stop, args)
	}
	stop()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		os.Exit(exit.ExitCode())
	case err != nil:
		fmt.Fprintln(os.Stderr, "local:", err)
		os.Exit(1)
	}
}
