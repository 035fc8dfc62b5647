package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"marketdata/local/process"
	"marketdata/local/services"
	"marketdata/shared/freeport"
)

// postgres is the database: a primary, and a standby that follows it synchronously.
type postgres struct {
	*system
	standby *process.Process

	primary server // present one
	next    server // standby; without a URL: there is none, or it has taken over
}

// server is a server of Postgres.
type server struct {
	folder  string
	mounted bool   // whether folder is on a disk of its own
	data    string // in folder
	url     string // not through the proxy, as the owner
}

// diskSize is enough for a schedule, and little to fill.
const diskSize = "600m"

func (pg *postgres) start(ctx context.Context, given services.Addresses) (a services.Addresses, err error) {
	if pg.primary, err = pg.newServer(ctx, "primary"); err != nil {
		return a, err
	}
	a, stop, err := services.Start(ctx, services.Options{Dir: pg.primary.folder, Durable: true, Say: pg.say("postgres"), Addresses: given})
	if err != nil {
		return a, err
	}
	pg.onStop(func() { stop(context.Background()) })
	pg.primary.url, pg.primary.data = a.DatabaseURL, filepath.Join(pg.primary.folder, "postgres")
	for _, setting := range []string{"max_wal_size = '128MB'", "min_wal_size = '32MB'", "wal_keep_size = '0'"} {
		if err := pg.exec(ctx, "alter system set "+setting); err != nil {
			return a, err
		}
	}
	if err := pg.exec(ctx, "select pg_reload_conf()"); err != nil {
		return a, err
	}
	return a, prepareDatabase(ctx, a)
}

// newServer makes the folder of a server, on a small disk of its own if we may mount one.
func (pg *postgres) newServer(ctx context.Context, name string) (server, error) {
	v := server{folder: filepath.Join(pg.dir, name)}
	if err := os.MkdirAll(v.folder, 0o711); err != nil { //nolint:gosec // Postgres' user must be able to enter it
		return v, fmt.Errorf("create data folder: %w", err)
	}
	if os.Geteuid() == 0 {
		mount := exec.CommandContext(ctx, "mount", "-t", "tmpfs", "-o", "mode=0711,size="+diskSize, "chaos", v.folder) //nolint:gosec // our own folder
		if v.mounted = mount.Run() == nil; v.mounted {
			pg.onStop(func() { _ = exec.Command("umount", v.folder).Run() }) //nolint:gosec,noctx // our own folder
		}
	}
	return v, nil
}

func (pg *postgres) connect(ctx context.Context, url string) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return pgx.Connect(ctx, url)
}

func (pg *postgres) exec(ctx context.Context, statement string) error {
	conn, err := pg.connect(ctx, pg.primary.url)
	if err != nil {
		return fmt.Errorf("connect to postgres: %w", err)
	}
	defer conn.Close(ctx) //nolint:errcheck // no transaction is open
	_, err = conn.Exec(ctx, statement)
	return err
}

// addStandby makes a standby that every commit waits for, so that a fail-over loses none.
func (pg *postgres) addStandby(ctx context.Context) error {
	conn, err := pg.connect(ctx, pg.primary.url)
	if err != nil {
		return fmt.Errorf("connect to postgres: %w", err)
	}
	defer conn.Close(ctx) //nolint:errcheck // no transaction is open
	var bin string
	if err := conn.QueryRow(ctx, "select setting from pg_config where name = 'BINDIR'").Scan(&bin); err != nil {
		return fmt.Errorf("find the programs of postgres: %w", err)
	}
	port, err := freeport.Find(ctx)
	if err != nil {
		return err
	}
	u, err := url.Parse(pg.primary.url)
	if err != nil {
		return fmt.Errorf("parse our own URL: %w", err)
	}
	owner, err := os.Stat(pg.primary.data)
	if err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	attr := &syscall.SysProcAttr{}
	next, err := pg.newServer(ctx, "standby")
	if err != nil {
		return err
	}
	if stat, ok := owner.Sys().(*syscall.Stat_t); ok && os.Geteuid() == 0 {
		attr.Credential = &syscall.Credential{Uid: stat.Uid, Gid: stat.Gid}
		if err := os.Chown(next.folder, int(stat.Uid), int(stat.Gid)); err != nil {
			return fmt.Errorf("set owner of data folder: %w", err)
		}
	}
	next.data = filepath.Join(next.folder, "data")
	copied := exec.CommandContext(ctx, filepath.Join(bin, "pg_basebackup"), "-D", next.data, "-R", "-X", "stream", "-c", "fast", "-d", pg.primary.url) //nolint:gosec // our own server
	copied.Dir, copied.SysProcAttr = "/", attr
	if out, err := copied.CombinedOutput(); err != nil {
		return fmt.Errorf("pg_basebackup: %w\n%s", err, out)
	}
	log := pg.out.Log("standby")
	pg.standby, err = process.Start(process.Options{
		Name: "standby",
		Command: func() *exec.Cmd {
			cmd := exec.Command(filepath.Join(bin, "postgres"), "-D", next.data, "-p", strconv.Itoa(port), "-c", "listen_addresses=127.0.0.1", //nolint:gosec,noctx // ended by Stop
				"-c", "unix_socket_directories=", "-c", "max_connections=200")
			own := *attr
			cmd.Dir, cmd.SysProcAttr, cmd.Stdout, cmd.Stderr = "/", &own, log, log
			return cmd
		},
		StopSignal: syscall.SIGINT, StopWait: 5 * time.Second, Orphan: syscall.SIGINT, Say: pg.say("standby"),
	})
	if err != nil {
		return err
	}
	pg.onStop(func() { pg.standby.Stop(context.Background()) })
	u.Host = "127.0.0.1:" + strconv.Itoa(port)
	next.url = u.String()
	pg.next = next
	if _, err := conn.Exec(ctx, "alter system set synchronous_standby_names = '*'"); err != nil {
		return fmt.Errorf("synchronous standby: %w", err)
	}
	if _, err := conn.Exec(ctx, "select pg_reload_conf()"); err != nil {
		return fmt.Errorf("synchronous standby: %w", err)
	}
	const follows = "select exists (select from pg_stat_replication where sync_state = 'sync')"
	for synchronous := false; !synchronous; {
		if err := conn.QueryRow(ctx, follows).Scan(&synchronous); err != nil {
			return fmt.Errorf("synchronous standby: %w", err)
		}
		if !synchronous && !pause(ctx, 50*time.Millisecond) {
			return context.Cause(ctx)
		}
	}
	return nil
}

var errNoStandby = errors.New("there is no standby")

// failOver kills the primary and promotes the standby. The old primary starts again, but the proxy leads nobody to it any more.
func (pg *postgres) failOver(ctx context.Context) error {
	if pg.next.url == "" {
		return errNoStandby
	}
	u, err := url.Parse(pg.next.url)
	if err != nil {
		return fmt.Errorf("parse our own URL: %w", err)
	}
	pg.links["postgres"].redirect(u.Host) // first, so that nobody commits on the old one, which starts again
	if pid, err := pg.pid(); err == nil { // else it is down already
		_ = syscall.Kill(pid, syscall.SIGKILL) // ESRCH: it has just died
	}
	conn, err := pg.connect(ctx, pg.next.url)
	if err != nil {
		return fmt.Errorf("connect to the standby: %w", err)
	}
	defer conn.Close(ctx) //nolint:errcheck // no transaction is open
	if _, err := conn.Exec(ctx, "select pg_promote(true, 30)"); err != nil {
		return fmt.Errorf("promote: %w", err)
	}
	pg.mu.Lock()
	defer pg.mu.Unlock()
	pg.primary, pg.next = pg.next, server{}
	return nil
}

// url returns the address of the present primary.
func (pg *postgres) url() string {
	pg.mu.Lock()
	defer pg.mu.Unlock()
	return pg.primary.url
}

func (pg *postgres) pid() (int, error) {
	pg.mu.Lock()
	data := pg.primary.data
	pg.mu.Unlock()
	text, err := os.ReadFile(filepath.Join(data, "postmaster.pid")) //nolint:gosec // of our own server
	if err != nil {
		return 0, fmt.Errorf("find postgres: %w", err)
	}
	first, _, _ := strings.Cut(string(text), "\n")
	return strconv.Atoi(first)
}

var errNoDisk = errors.New("postgres has no disk of its own, which only root can mount")

// fillDisk leaves no room on the disk, and returns what makes room again.
func (pg *postgres) fillDisk() (end func(), err error) {
	pg.mu.Lock()
	primary := pg.primary
	pg.mu.Unlock()
	if !primary.mounted {
		return nil, errNoDisk
	}
	ballast, err := os.Create(filepath.Join(primary.folder, "ballast"))
	if err != nil {
		return nil, fmt.Errorf("fill disk: %w", err)
	}
	if _, err = io.Copy(ballast, zeros{}); !errors.Is(err, syscall.ENOSPC) {
		err = fmt.Errorf("fill disk: %w", err)
	} else {
		err = nil
	}
	_ = ballast.Close() // full
	return func() { _ = os.Remove(ballast.Name()) }, err
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }
