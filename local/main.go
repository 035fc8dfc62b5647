// Local runs the whole system on one machine: backing services, the four functions as processes of their own, the event
// sources that a Knative cluster would have, fake price providers, and a gateway.
//
//	local                          run everything until Ctrl-C
//	local incident                 play a bad day on the stack that is up
//	local load [-short] [ROW…]     measure what a system of its own carries
//	local exec [-durable] -- CMD   run CMD against fresh, throw-away services, and end with its exit status
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
