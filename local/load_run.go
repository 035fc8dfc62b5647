package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"marketdata/local/load"
)

// measure drives a system of its own and prints what it carries, or serves the references that it is measured beside.
func measure(ctx context.Context, args []string) error {
	set := flag.NewFlagSet("local load", flag.ContinueOnError)
	short := set.Bool("short", false, "a tenth of the size; fail if a figure is ten times worse than asked for")
	reference := set.String("reference", "", "serve the references on this address instead")
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
	return load.Run(ctx, load.Options{BinDir: filepath.Join(cfg.Dir, "bin"), Short: *short, Rows: set.Args(), Out: os.Stdout})
}
