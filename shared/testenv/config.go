package testenv

import (
	"os"
	"os/exec"
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

// Installed returns the path of a server's program, for tests that need a server of their own. Without the program the test is skipped,
// so that "make test" needs no more than it can install; with REQUIRE_SERVICES=1, as in CI, it fails.
func Installed(tb testing.TB, program, debianPackage string) string {
	tb.Helper()
	path, err := exec.LookPath(program)
	switch {
	case err == nil:
	case os.Getenv("REQUIRE_SERVICES") == "1": //nolint:forbidigo // as above
		tb.Fatalf("%s is not installed (Debian: apt-get install %s), and REQUIRE_SERVICES is 1", program, debianPackage)
	default:
		tb.Skipf("it needs a %s of its own, which is not installed (Debian: apt-get install %s)", program, debianPackage)
	}
	return path
}
