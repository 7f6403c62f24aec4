// Package backuptest tests implementations of [backup.Target].
//
// An implementation's own test hands [TestTarget] a way to make subjects,
// and adds what only it can know: its options, its corner cases.
package backuptest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// A Subject is a target under test, with something in it to back up.
type Subject struct {
	Target backup.Target

	// State describes, in any text, all that the target backs up. Equal
	// states are equal texts.
	State func() (string, error)

	// Change alters a small part of it.
	Change func() error

	// Destination returns a place to restore to, new and empty each time.
	Destination func() (backup.Destination, error)

	// Restored is State of what was restored to a destination.
	Restored func(backup.Destination) (string, error)
}

// TestTarget checks what every target owes to the repository. open makes a
// new subject; it is called for each clause, with a t that ends with it.
func TestTarget(t *testing.T, open func(t *testing.T) Subject) {
	for _, c := range clauses {
		t.Run(c.name, func(t *testing.T) {
			if err := run(t.Context(), c, open(t)); err != nil {
				t.Error(err)
			}
		})
	}
}

// A clause is one sentence of the contract.
type clause struct {
	name  string
	check func(ctx context.Context, w *world) error
}

// clauses are read by nobody else; each gets a world of its own.
var clauses = []clause{
	{"what is restored is what was backed up", roundTrip},
	{"incremental points are complete and read less", incremental},
	{"differential points compare with the full one", differential},
	{"one value serves many backups at once", concurrent},
	{"a cancelled backup leaves no point", cancelBackup},
	{"a cancelled restore reports it", cancelRestore},
	{"lost content is reported", lostContent},
	{"unknown options are refused", unknownOption},
	{"a hostile point is refused", hostile},
}

// A world is a subject with a repository.
type world struct {
	Subject
	store *providertest.Memory
	repo  *backup.Repository
}

func run(ctx context.Context, c clause, s Subject) error {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		return err
	}
	w := &world{Subject: s, store: providertest.NewMemory()}
	w.repo, err = backup.Init(ctx, backup.Config{Store: w.store, Writer: "backuptest", Keyring: backup.Keyring{
		Recipients: backup.AgeRecipients(id.Recipient()), Identities: backup.AgeIdentities(id)}})
	if err != nil {
		return err
	}
	return c.check(ctx, w)
}

// backup makes a point that begins a minute from now, so that nothing was
// touched shortly before: targets are right to read such things again.
func (w *world) backup(ctx context.Context, mode backup.Mode) (backup.Point, error) {
	p, err := w.repo.Backup(ctx, "subject", w.Target, backup.BackupOptions{Mode: mode, Time: time.Now().Add(time.Minute)})
	if err == nil && p.Partial() {
		err = fmt.Errorf("the point is partial: %v", p.Warnings)
	}
	return p, err
}

// holds restores a point and compares it.
func (w *world) holds(ctx context.Context, p backup.Point, want string) error {
	d, err := w.Destination()
	if err != nil {
		return err
	}
	if err := w.repo.Restore(ctx, p.ID, w.Target, d, backup.RestoreOptions{}); err != nil {
		return err
	}
	got, err := w.Restored(d)
	if err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("%s point restores to\n%.2000s\nwant\n%.2000s", p.Mode, got, want)
	}
	return nil
}

func roundTrip(ctx context.Context, w *world) error {
	want, err := w.State()
	if err != nil {
		return err
	}
	p, err := w.backup(ctx, backup.Full)
	if err != nil {
		return err
	}
	if p.Stats.Items == 0 && len(p.Externals) == 0 {
		return errors.New("the point is empty: the subject must have something to back up")
	}
	if err := w.Change(); err != nil { // the point is of the past
		return err
	}
	return w.holds(ctx, p, want)
}

func incremental(ctx context.Context, w *world) error {
	full, err := w.backup(ctx, backup.Incremental)
	if err != nil {
		return err
	}
	if full.Mode != backup.Full {
		return fmt.Errorf("the first point is %s, not full", full.Mode)
	}
	for _, change := range []func() error{func() error { return nil }, w.Change, w.Change} {
		if err := change(); err != nil {
			return err
		}
		want, err := w.State()
		if err != nil {
			return err
		}
		p, err := w.backup(ctx, backup.Incremental)
		if err != nil {
			return err
		}
		if p.Stats.BytesRead > full.Stats.BytesRead+full.Stats.BytesRead/2 {
			return fmt.Errorf("an incremental backup read %d bytes, the full one %d", p.Stats.BytesRead, full.Stats.BytesRead)
		}
		if err := w.holds(ctx, p, want); err != nil {
			return err
		}
	}
	return nil
}

func differential(ctx context.Context, w *world) error {
	full, err := w.backup(ctx, backup.Full)
	if err != nil {
		return err
	}
	for range 2 {
		if err := w.Change(); err != nil {
			return err
		}
		want, err := w.State()
		if err != nil {
			return err
		}
		p, err := w.backup(ctx, backup.Differential)
		if err != nil {
			return err
		}
		if p.Parent != full.ID {
			return fmt.Errorf("compared with %q, not with the full point %q", p.Parent, full.ID)
		}
		if err := w.holds(ctx, p, want); err != nil {
			return err
		}
	}
	return nil
}

func concurrent(ctx context.Context, w *world) error {
	want, err := w.State()
	if err != nil {
		return err
	}
	const n = 3
	errs := make(chan error, n)
	for range n {
		go func() {
			p, err := w.backup(ctx, backup.Full)
			if err == nil {
				err = w.holds(ctx, p, want)
			}
			errs <- err
		}()
	}
	for range n {
		err = errors.Join(err, <-errs)
	}
	return err
}

func cancelBackup(ctx context.Context, w *world) error {
	ctx2, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := w.backup(ctx2, backup.Full); !errors.Is(err, context.Canceled) {
		return fmt.Errorf("a cancelled backup returned %v", err)
	}
	// Later, while the target is at it: at its first item.
	ctx2, cancel = context.WithCancel(ctx)
	defer cancel()
	_, err := w.repo.Backup(ctx2, "subject", w.Target, backup.BackupOptions{Progress: func(backup.Progress) { cancel() }})
	if ctx2.Err() != nil && err == nil {
		// It had all been done by then; fine, if it is whole.
		return nil
	}
	if !errors.Is(err, context.Canceled) {
		return fmt.Errorf("a backup cancelled at its first item returned %v", err)
	}
	for p, err := range w.repo.Points(ctx, "") {
		if err != nil {
			return err
		}
		return fmt.Errorf("point %s exists", p.ID)
	}
	return nil
}

func cancelRestore(ctx context.Context, w *world) error {
	p, err := w.backup(ctx, backup.Full)
	if err != nil {
		return err
	}
	d, err := w.Destination()
	if err != nil {
		return err
	}
	v, err := w.repo.View(ctx, p.ID)
	if err != nil {
		return err
	}
	ctx2, cancel := context.WithCancel(ctx)
	cancel()
	if err := w.Target.Restore(ctx2, v, d); !errors.Is(err, context.Canceled) {
		return fmt.Errorf("a cancelled restore returned %v", err)
	}
	return nil
}

func lostContent(ctx context.Context, w *world) error {
	p, err := w.backup(ctx, backup.Full)
	if err != nil {
		return err
	}
	if p.Stats.Bytes == 0 {
		return nil // all of it is external
	}
	for info, err := range w.store.List(ctx, "data/", provider.ListOptions{}) {
		if err != nil {
			return err
		}
		if err := w.store.Delete(ctx, info.Key, provider.DeleteOptions{}); err != nil {
			return err
		}
	}
	d, err := w.Destination()
	if err != nil {
		return err
	}
	if err := w.repo.Restore(ctx, p.ID, w.Target, d, backup.RestoreOptions{}); !errors.Is(err, backup.ErrDamaged) {
		return fmt.Errorf("restoring without the content returned %v, not backup.ErrDamaged", err)
	}
	return nil
}

func unknownOption(ctx context.Context, w *world) error {
	p, err := w.backup(ctx, backup.Full)
	if err != nil {
		return err
	}
	d, err := w.Destination()
	if err != nil {
		return err
	}
	options := map[string]string{"no-such-option": "true"}
	for k, v := range d.Options {
		options[k] = v
	}
	d.Options = options
	if err := w.repo.Restore(ctx, p.ID, w.Target, d, backup.RestoreOptions{}); err == nil || !strings.Contains(err.Error(), "no-such-option") {
		return fmt.Errorf("restoring with the option no-such-option returned %v", err)
	}
	return nil
}

// forger makes points of any kind with items of its own.
type forger struct {
	kind string
	item backup.Item
}

func (f forger) Kind() string { return f.kind }
func (f forger) Backup(ctx context.Context, s *backup.Session) error {
	return s.Add(ctx, f.item, strings.NewReader("forged"))
}
func (f forger) Restore(context.Context, *backup.View, backup.Destination) error {
	return errors.ErrUnsupported
}

func hostile(ctx context.Context, w *world) error {
	before, err := w.State()
	if err != nil {
		return err
	}
	var errs []error
	for _, it := range []backup.Item{
		{Path: "../../../../escape", Meta: json.RawMessage(`{}`)},
		{Path: "/escape", Meta: json.RawMessage(`{}`)},
		{Path: "x", Meta: json.RawMessage(`{`)},
		{Path: "x", Meta: json.RawMessage(`[[[[[[[[]]]]]]]]`)},
		{Path: "x", Meta: json.RawMessage("\x00\xff")},
		{Path: "\xff\xfe", Meta: nil},
	} {
		p, err := w.repo.Backup(ctx, "forged", forger{w.Target.Kind(), it}, backup.BackupOptions{})
		if err != nil {
			return err
		}
		d, err := w.Destination()
		if err != nil {
			return err
		}
		if err := w.repo.Restore(ctx, p.ID, w.Target, d, backup.RestoreOptions{}); err == nil {
			errs = append(errs, fmt.Errorf("a point with the item %q, described as %q, was restored", it.Path, it.Meta))
		}
	}
	after, err := w.State()
	if err == nil && after != before {
		err = errors.New("the source was changed by restoring a hostile point")
	}
	return errors.Join(append(errs, err)...)
}
