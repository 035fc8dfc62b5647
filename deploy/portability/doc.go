// Package portability contains only tests. They run each function's binary on its own, behind a stand-in of Knative's queue-proxy, and
// behind a stand-in of OpenFaaS' of-watchdog, and hold it to the same promises in all three.
package portability
