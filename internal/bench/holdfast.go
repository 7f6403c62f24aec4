package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"filippo.io/age"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/files"
	"github.com/holdfast-go/holdfast/provider/local"
)

// drive is one step of Holdfast, in a process of its own as its peers are,
// with nothing but the exported API and its defaults:
//
//	drive KEYFILE REPOSITORY init
//	drive KEYFILE REPOSITORY backup DIRECTORY
//	drive KEYFILE REPOSITORY restore DIRECTORY
//	drive KEYFILE REPOSITORY check
func drive(ctx context.Context, args []string) error {
	if len(args) < 3 {
		return errors.New("drive: want KEYFILE REPOSITORY STEP")
	}
	step, dir := args[2], ""
	if len(args) > 3 {
		dir = args[3]
	}
	key, err := identity(args[0], step == "init")
	if err != nil {
		return err
	}
	store, err := local.NewBlobStore(local.Config{Dir: args[1], Create: step == "init"})
	if err != nil {
		return err
	}
	defer store.Close()
	c := backup.Config{Store: store, Keyring: backup.Keyring{
		Recipients: backup.AgeRecipients(key.Recipient()), Identities: backup.AgeIdentities(key)}}
	if step == "init" {
		_, err := backup.Init(ctx, c)
		return err
	}
	repo, err := backup.Open(ctx, c)
	if err != nil {
		return err
	}
	target, err := files.New(files.Config{Root: dir})
	if err != nil {
		return err
	}
	switch step {
	case "backup":
		p, err := repo.Backup(ctx, "bench", target, backup.BackupOptions{Mode: backup.Incremental})
		if err == nil && p.WarningCount > 0 {
			err = fmt.Errorf("backup: %d warnings, the first: %v", p.WarningCount, p.Warnings[0])
		}
		return err
	case "restore":
		var last backup.PointID
		for p, err := range repo.Points(ctx, "bench") {
			if err != nil {
				return err
			}
			last = p.ID
		}
		return repo.Restore(ctx, last, target, backup.Destination{Location: dir}, backup.RestoreOptions{})
	case "check":
		report, err := repo.Check(ctx, backup.CheckOptions{ReadData: true})
		if err == nil && !report.OK() {
			err = fmt.Errorf("check: %d problems, the first: %v", len(report.Problems), report.Problems[0])
		}
		return err
	}
	return fmt.Errorf("drive: unknown step %q", step)
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
	}, nil
}
