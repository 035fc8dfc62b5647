// Package e2e contains only tests. They run the built binaries in the local runtime and use them as a user does: over HTTP, Kafka and
// SQL.
package e2e
