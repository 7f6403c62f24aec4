package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// settings are the flags that a resumed run must share with the first one.
type settings struct {
	Data         string `json:"data,omitempty"`          // the user's own directory; absolute
	Postgres     string `json:"postgres,omitempty"`      // directory of its programs: the story is told on PostgreSQL
	PostgresUser string `json:"postgres_user,omitempty"` // UID:GID of who runs it

	Interval time.Duration `json:"interval"` // between health checks
	Backups  int           `json:"backups"`  // incremental ones before the fault
	Archive  int64         `json:"archive"`  // bytes the service starts with
	Pace     time.Duration `json:"pace"`     // of the client
	Lease    time.Duration `json:"lease"`    // of the orchestrator
	Step     time.Duration `json:"step"`     // timeout of a failover step
	Restore  time.Duration `json:"restore"`  // timeout of one that restores
}

const exitStatus = `
The exit status is 0 only if every check held and every objective was met. After
a -resume a missed objective is printed and stands in the report, but does not
count here: while the orchestrator was dead nobody recovered anything. A loss that
was not accounted for, or two sites writable at once, always counts.
`

func main() {
	if len(os.Args) == 4 && os.Args[1] == processCommand {
		os.Exit(runProcess(os.Args[2], os.Args[3]))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		switch {
		case errors.Is(err, flag.ErrHelp):
		case ctx.Err() != nil && errors.Is(err, context.Canceled):
			fmt.Fprintln(os.Stderr, "quickstart: interrupted")
		default:
			fmt.Fprintf(os.Stderr, "quickstart: %v\n", err)
		}
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	var (
		s      settings
		dir    string
		keep   bool
		resume bool
	)
	fl := flag.NewFlagSet("quickstart", flag.ContinueOnError)
	fl.StringVar(&s.Data, "data", "", "protect this `directory` (only read) instead of the built-in ledger service")
	fl.StringVar(&s.Postgres, "postgres", "", "tell the story on PostgreSQL: `directory` of its programs, or auto for the newest that is installed")
	fl.StringVar(&s.PostgresUser, "postgres-user", "", "`name` or UID:GID of who runs PostgreSQL, if you are root")
	fl.StringVar(&dir, "dir", "", "state `directory` (default: a new temporary one)")
	fl.BoolVar(&keep, "keep", false, "keep sites and data at the end, not only the report")
	fl.BoolVar(&resume, "resume", false, "continue a run whose orchestrator died")
	fl.DurationVar(&s.Interval, "interval", 500*time.Millisecond, "time between health checks")
	fl.IntVar(&s.Backups, "backups", 4, "incremental backups before the fault")
	fl.Int64Var(&s.Archive, "archive", 32<<20, "bytes of old data that the ledger service has")
	fl.DurationVar(&s.Pace, "pace", 20*time.Millisecond, "pause of the client between two records")
	fl.DurationVar(&s.Lease, "lease", 10*time.Second, "after which a silent orchestrator may be succeeded")
	fl.DurationVar(&s.Step, "step-timeout", 10*time.Second, "of one step of a failover; a resumed run may have to wait so long")
	fl.DurationVar(&s.Restore, "restore-timeout", time.Minute, "of a step that restores")
	fl.Usage = func() {
		fmt.Fprintln(fl.Output(), "Usage of quickstart:")
		fl.PrintDefaults()
		fmt.Fprint(fl.Output(), exitStatus)
	}
	if err := fl.Parse(args); err != nil {
		return err
	}
	if fl.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", fl.Arg(0))
	}
	if resume && s.Postgres != "" {
		return errors.New("-resume: the run that goes on knows its PostgreSQL; leave -postgres away")
	}
	if err := s.check(); err != nil {
		return err
	}
	if _, err := processBegan(os.Getpid()); err != nil {
		return err
	}
	dir, err := stateDir(ctx, dir, resume)
	if err != nil {
		return err
	}
	if err := apart(dir, s.Data); err != nil {
		return err
	}
	return tell(ctx, dir, s, resume, keep)
}

func (s *settings) check() error {
	var errs []error
	if s.Data != "" {
		abs, err := filepath.Abs(s.Data)
		if err == nil {
			abs, err = filepath.EvalSymlinks(abs)
		}
		if fi, e := os.Stat(abs); err == nil && (e != nil || !fi.IsDir()) {
			err = errors.Join(e, fmt.Errorf("%s is not a directory", abs))
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("-data: %w", err))
		}
		s.Data = abs
	}
	errs = append(errs, s.checkPostgres())
	if s.Interval < 20*time.Millisecond {
		errs = append(errs, fmt.Errorf("-interval: %v is below 20ms", s.Interval))
	}
	if s.Pace < time.Millisecond {
		errs = append(errs, fmt.Errorf("-pace: %v is below 1ms", s.Pace))
	}
	if s.Lease < time.Second {
		errs = append(errs, fmt.Errorf("-lease: %v is below 1s", s.Lease))
	}
	if s.Step < time.Second || s.Restore < s.Step {
		errs = append(errs, fmt.Errorf("-step-timeout %v, -restore-timeout %v: at least 1s, the second no shorter", s.Step, s.Restore))
	}
	if s.Backups < 1 {
		errs = append(errs, fmt.Errorf("-backups: %d is below 1", s.Backups))
	}
	if s.Archive < 0 {
		errs = append(errs, fmt.Errorf("-archive: %d is negative", s.Archive))
	}
	return errors.Join(errs...)
}

func (s *settings) checkPostgres() (err error) {
	if s.Postgres == "" {
		return nil
	}
	if s.Data != "" {
		return errors.New("-postgres and -data are two stories")
	}
	if s.Postgres, err = findPostgres(s.Postgres); err == nil {
		s.PostgresUser, err = findOwner(s.PostgresUser)
	}
	return err
}

// apart refuses to keep state inside the data to protect, or the reverse.
func apart(dir, data string) error {
	sep := string(filepath.Separator)
	if data != "" && (strings.HasPrefix(dir+sep, data+sep) || strings.HasPrefix(data+sep, dir+sep)) {
		return fmt.Errorf("-data %s and the state directory %s lie within each other", data, dir)
	}
	return nil
}

const tempPattern = "holdfast-quickstart-"

// stateDir chooses the state directory: the one given, a new temporary one,
// or for -resume the temporary one that a dead orchestrator used last. What
// other dead orchestrators left in temporary directories is removed.
func stateDir(ctx context.Context, dir string, resume bool) (string, error) {
	if dir != "" {
		return ownDir(dir)
	}
	left, err := leftovers()
	if err != nil {
		return "", err
	}
	if resume {
		if len(left) == 0 {
			return "", errors.New("-resume: no unfinished run found; name it with -dir")
		}
		return left[len(left)-1], nil
	}
	for _, d := range left {
		if err := removeLeftover(ctx, d); err != nil {
			return "", err
		}
	}
	return os.MkdirTemp("", tempPattern)
}

// ownDir makes sure that dir is empty or of an earlier run: a new run removes
// what the last one had.
func ownDir(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err == nil {
		err = os.MkdirAll(dir, 0o700)
	}
	if err != nil {
		return "", err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	foreign := slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() != "run" })
	if _, err := os.Stat(stageLogPath(dir)); err != nil && foreign {
		return "", fmt.Errorf("-dir %s: neither empty nor the state of an earlier run", dir)
	}
	return filepath.EvalSymlinks(dir)
}

// leftovers are the temporary directories of runs that ended without saying
// so, the latest last.
func leftovers() ([]string, error) {
	dirs, err := filepath.Glob(filepath.Join(os.TempDir(), tempPattern+"*"))
	if err != nil {
		return nil, err
	}
	var left []string
	latest := time.Time{}
	for _, d := range dirs {
		fi, err := os.Stat(fleet{d}.path(orchestratorName, ".json"))
		if err != nil { // never begun, or ended well: the report may be kept there
			continue
		}
		if _, alive := (fleet{d}).find(orchestratorName); alive {
			continue
		}
		if fi.ModTime().Before(latest) {
			left = append([]string{d}, left...)
			continue
		}
		latest = fi.ModTime()
		left = append(left, d)
	}
	return left, nil
}

// removeLeftover ends the processes of a crashed run and removes what it had,
// unless somebody has taken it up meanwhile.
func removeLeftover(ctx context.Context, dir string) error {
	f := fleet{dir}
	release, err := lockFile(f.path(orchestratorName, ".lock"))
	if errors.Is(err, errAlreadyRunning) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer release()
	n, err := f.stopAll(ctx, forget)
	if err != nil {
		return fmt.Errorf("remove what a crashed run left in %s: %w", dir, err)
	}
	fmt.Printf("removed what a crashed run left in %s (%d processes still ran)\n", dir, n)
	return removeTree(dir)
}
