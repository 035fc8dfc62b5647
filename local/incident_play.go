package main

import (
	"context"
	"fmt"
	"os"

	"github.com/joho/godotenv"

	"marketdata/local/incident"
	"marketdata/shared/kafkaclient"
)

// playIncident plays an incident on the running stack of the configured folder.
func playIncident(ctx context.Context) error {
	cfg, err := loadConfig()
	if err != nil {
		return err
	}
	env, err := godotenv.Read(cfg.envPath())
	if err != nil {
		return fmt.Errorf("no stack is running on %s (%s does not exist): start one with 'make run' first", cfg.Dir, cfg.envPath())
	}
	var lines []string
	for name, value := range env {
		lines = append(lines, name+"="+value)
	}
	return incident.Play(ctx, incident.Stack{
		Gateway: env["GATEWAY_URL"], GetLatest: env["GET_LATEST_URL"], Exchange: env["EXCHANGE_URL"], Kafka: kafkaclient.FromEnviron(lines),
		Topic: env["PRICE_EVENTS_TOPIC"], Token: env["DLQ_TOKEN"],
	}, os.Stdout)
}
