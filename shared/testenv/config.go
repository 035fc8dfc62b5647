package testenv

import (
	"os"
	"os/exec"
	"strconv"
	"testing"
)

// need returns the variable's value, or fails the test with the remedy.
func need(tb testing.TB, name string) string {
	tb.Helper()
	value := os.Getenv(name) //nolint:forbidigo // where tests find their services
	if value == "" {
		tb.Fatalf("%s is not set: run 'make test', which starts the services, or set it to a server of your own", name)
	}
	return value
}

// Size returns the size of a test: standard, or the variable's value, for runs by hand.
func Size(tb testing.TB, variable string, standard int) int {
	tb.Helper()
	text := os.Getenv(variable) //nolint:forbidigo // as above
	if text == "" {
		return standard
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		tb.Fatalf("%s is %q, not a size", variable, text)
	}
	return n
}

// Installed returns the path of a server's program, for tests that need a server of their own. Without the program the test is
// [Missing] it.
func Installed(tb testing.TB, program, debianPackage string) string {
	tb.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		Missing(tb, "it needs a "+program+" of its own, which is not installed (Debian: apt-get install "+debianPackage+")")
	}
	return path
}

// Missing ends a test that this machine cannot run, and says what it needs. The test is skipped, so that "make test" needs no more than
// it can install; with REQUIRE_SERVICES=1, as in CI, it fails.
func Missing(tb testing.TB, need string) {
	tb.Helper()
	if os.Getenv("REQUIRE_SERVICES") == "1" { //nolint:forbidigo // as above
		tb.Fatal(need + ", and REQUIRE_SERVICES is 1")
	}
	tb.Skip(need)
}
