// Package e2e contains only tests. They run the built binaries in the local runtime and use them as a user does: over HTTP, Kafka and
// SQL.
//
// Each stack has services of its own. A broker that is given, by KAFKA_BOOTSTRAP_SERVERS or as KAFKA=apache, is the exception: the stacks
// share it, with topics and consumer groups of their own, which are deleted at the end. Tests that stop a broker, or make it drop
// requests, start one for themselves.
package e2e
