package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"filippo.io/age"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/files"
	"github.com/holdfast-go/holdfast/backup/postgres"
	"github.com/holdfast-go/holdfast/provider/local"
)

// drive is one step of Holdfast, in a process of its own as its peers are,
// with nothing but the exported API and its defaults:
//
//	drive KEYFILE REPOSITORY init
//	drive KEYFILE REPOSITORY backup DIRECTORY
//	drive KEYFILE REPOSITORY restore DIRECTORY
//	drive KEYFILE REPOSITORY check
//	drive KEYFILE REPOSITORY structure
//	drive KEYFILE REPOSITORY prune KEEP
//	drive KEYFILE REPOSITORY pg-backup READER CONN DATA MODE COMPRESSION CHECKSUMS
//	drive KEYFILE REPOSITORY pg-restore DIRECTORY OVERWRITE
//
// Run by hand with BENCH_PROFILE set, it writes the profiles BENCH_PROFILE.cpu
// and BENCH_PROFILE.mem, the latter of all that was ever allocated.
func drive(ctx context.Context, args []string) error {
	return profiled(func() error { return step(ctx, args) })
}

func step(ctx context.Context, args []string) (err error) {
	if len(args) < 3 {
		return errors.New("drive: want KEYFILE REPOSITORY STEP")
	}
	what, arg := args[2], ""
	if len(args) > 3 {
		arg = args[3]
	}
	key, err := identity(args[0], what == "init")
	if err != nil {
		return err
	}
	dir, err := local.NewBlobStore(local.Config{Dir: args[1], Create: what == "init"})
	if err != nil {
		return err
	}
	defer dir.Close()
	store := &counted{BlobStore: dir}
	if text := os.Getenv(addLatency); text != "" {
		if store.latency, err = time.ParseDuration(text); err != nil {
			return err
		}
	}
	defer func() { err = errors.Join(err, store.write()) }()
	c := backup.Config{Store: store, Keyring: backup.Keyring{
		Recipients: backup.AgeRecipients(key.Recipient()), Identities: backup.AgeIdentities(key)}}
	if what == "init" {
		_, err := backup.Init(ctx, c)
		return err
	}
	repo, err := backup.Open(ctx, c)
	if err != nil {
		return err
	}
	if rest := args[3:]; what == "pg-backup" || what == "pg-restore" {
		return postgresStep(ctx, repo, what, rest)
	}
	target, err := files.New(files.Config{Root: arg})
	if err != nil {
		return err
	}
	switch what {
	case "backup":
		p, err := repo.Backup(ctx, "bench", target, backup.BackupOptions{Mode: backup.Incremental})
		if err == nil && p.WarningCount > 0 {
			err = fmt.Errorf("backup: %d warnings, the first: %v", p.WarningCount, p.Warnings[0])
		}
		return err
	case "restore":
		return restoreLast(ctx, repo, target, backup.Destination{Location: arg})
	case "check", "structure":
		report, err := repo.Check(ctx, backup.CheckOptions{ReadData: what == "check"})
		if err == nil && !report.OK() {
			err = fmt.Errorf("check: %d problems, the first: %v", len(report.Problems), report.Problems[0])
		}
		return err
	case "prune":
		return prune(ctx, repo, arg)
	}
	return fmt.Errorf("drive: unknown step %q", what)
}

func restoreLast(ctx context.Context, repo *backup.Repository, target backup.Target, d backup.Destination) error {
	var last backup.PointID
	for p, err := range repo.Points(ctx, "bench") {
		if err != nil {
			return err
		}
		last = p.ID
	}
	return repo.Restore(ctx, last, target, d, backup.RestoreOptions{})
}

// postgresStep backs a cluster up or restores it.
func postgresStep(ctx context.Context, repo *backup.Repository, what string, args []string) error {
	if what == "pg-restore" {
		target, err := postgres.New(postgres.Config{})
		if err != nil {
			return err
		}
		return restoreLast(ctx, repo, target, backup.Destination{Location: args[0], Options: map[string]string{"overwrite": args[1], "target": "consistent"}})
	}
	target, err := postgres.New(postgres.Config{Reader: postgres.Reader(args[0]), Conn: args[1], Data: args[2], ManifestChecksums: args[5]})
	if err != nil {
		return err
	}
	p, err := repo.Backup(ctx, "bench", target, backup.BackupOptions{Mode: backup.Mode(args[3]), Compression: backup.Compression(args[4])})
	if err == nil && p.WarningCount > 0 {
		err = fmt.Errorf("backup: %d warnings, the first: %v", p.WarningCount, p.Warnings[0])
	}
	return err
}

// prune forgets all but the newest points and frees their space.
func prune(ctx context.Context, repo *backup.Repository, keep string) error {
	n, err := strconv.Atoi(keep)
	if err != nil {
		return err
	}
	var ids []backup.PointID
	for p, err := range repo.Points(ctx, "bench") {
		if err != nil {
			return err
		}
		ids = append(ids, p.ID)
	}
	for _, id := range ids[:max(len(ids)-n, 0)] {
		if err := repo.Forget(ctx, id); err != nil {
			return err
		}
	}
	report, err := repo.Prune(ctx, backup.PruneOptions{})
	if err == nil && report.Pending.Packs > 0 {
		err = fmt.Errorf("prune: %d packs are left, though no backup is under way", report.Pending.Packs)
	}
	return err
}

// identity reads the key file, or makes it.
func identity(file string, create bool) (*age.X25519Identity, error) {
	if create {
		key, err := age.GenerateX25519Identity()
		if err != nil {
			return nil, err
		}
		return key, os.WriteFile(file, []byte(key.String()), 0o600)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return age.ParseX25519Identity(strings.TrimSpace(string(b)))
}

// holdfast is this module itself.
func holdfast(dir string) (*tool, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	key, repo := filepath.Join(dir, "key"), filepath.Join(dir, "repo")
	run := func(step string, args ...string) []command {
		return []command{{argv: append([]string{self, "drive", key, repo, step}, args...)}}
	}
	return &tool{
		name: "holdfast", version: "this tree", repo: repo,
		init:    func() []command { return run("init") },
		backup:  func(data, _ string) []command { return run("backup", data) },
		restore: func(to, _ string) []command { return run("restore", to) },
		check:   func() []command { return run("check") },
		prune:   func(keep int) []command { return run("prune", fmt.Sprint(keep)) },
	}, nil
}
