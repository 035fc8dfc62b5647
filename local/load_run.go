package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"

	"marketdata/local/load"
)

// measure runs the load test on a system of its own and prints the results, or serves the references that it compares with.
func measure(ctx context.Context, args []string) error {
	set := flag.NewFlagSet("local load", flag.ContinueOnError)
	short := set.Bool("short", false, "run at a tenth of the size, and fail if a figure is ten times worse than its target")
	reference := set.String("reference", "", "serve the references on this address instead")
	routes := set.String("routes", "", "flood only the routes whose names match this regular expression (row overload)")
	set.Usage = func() {
		_, _ = fmt.Fprintf(set.Output(), "local load [-short] [row…]: rows are %s\n", strings.Join(load.Names(), ", "))
		set.PrintDefaults()
	}
	if err := set.Parse(args); err != nil {
		return err
	}
	if *reference != "" {
		return load.Serve(ctx, *reference)
	}
	cfg, err := loadConfig()
	if err != nil {
		return err
	}
	o := load.Options{BinDir: cfg.binDir(), Short: *short, Rows: set.Args(), Out: os.Stdout}
	if *routes != "" {
		if o.Routes, err = regexp.Compile(*routes); err != nil {
			return fmt.Errorf("-routes: %w", err)
		}
	}
	return load.Run(ctx, o)
}
