package main

import "context"

func run(context.Context, func(), []string) error { return nil }
