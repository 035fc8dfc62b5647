package main

import (
	"context"
	"flag"
	"os"
	"time"

	"marketdata/local/chaos"
)

// playChaos plays schedules of faults on systems of its own, or serves the broker of one.
func playChaos(ctx context.Context, args []string) error {
	set := flag.NewFlagSet("local chaos", flag.ContinueOnError)
	o := chaos.Options{Out: os.Stdout}
	set.Uint64Var(&o.Seed, "seed", 1, "seed of the first schedule; the next has the next seed")
	set.IntVar(&o.Schedules, "schedules", 1, "how many schedules to play, each on a new system")
	set.DurationVar(&o.Duration, "duration", 3*time.Minute, "how long faults go on in a schedule")
	broker := set.String("broker", "", "serve a broker on this address instead")
	admin := set.String("admin", "", "where that broker is told to fail")
	dir := set.String("dir", "", "the data folder of that broker")
	if err := set.Parse(args); err != nil {
		return err
	}
	if *broker != "" {
		return chaos.ServeBroker(ctx, *broker, *admin, *dir)
	}
	cfg, err := loadConfig()
	if err != nil {
		return err
	}
	o.BinDir = cfg.binDir()
	return chaos.Run(ctx, o)
}
