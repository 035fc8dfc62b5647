// Package e2e is tests alone: they drive the built binaries through the local runtime, as a user does, by HTTP, Kafka and SQL.
package e2e
