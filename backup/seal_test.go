package backup_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// seal opens the repository of a holder as a sealed writer.
func seal(t testing.TB, holder *backup.Repository, s provider.BlobStore, name string) *backup.Repository {
	t.Helper()
	c, err := holder.Seal(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	r, err := backup.Open(t.Context(), backup.Config{Store: s, Credential: c})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// A sealed writer backs up, with a credential of the store that can only
// create, and a holder restores byte for byte.
func TestSealedWriterBacksUpAndHolderRestores(t *testing.T) {
	store := providertest.NewMemory()
	holder := newRepo(t, store)
	sealed := seal(t, holder, createOnly{store, t}, "web1")
	target := treeOf(map[string]string{"a": "alpha", "big": random(1, 3<<20), "c/d": strings.Repeat("text ", 100_000), "empty": ""})
	p := mustBackup(t, sealed, "web", target, backup.Full)
	if p.Writer != "web1" || !p.SealedWriter || p.Packs.Packs == 0 {
		t.Errorf("point: %+v", p)
	}
	mustHold(t, reopen(t, store), p.ID, target.files)
	target.files["c/d"] = file{content: "changed", version: 1}
	p2 := mustBackup(t, sealed, "web", target, backup.Incremental)
	if p2.Mode != backup.Full || p2.Parent != "" {
		t.Errorf("a sealed writer has compared with %q", p2.Parent)
	}
	if p2.Stats.BytesNew > 1000 {
		t.Errorf("a second backup found %d new bytes; it may rely on its own packs", p2.Stats.BytesNew)
	}
	r := reopen(t, store)
	mustHold(t, r, p.ID, treeOf(map[string]string{"a": "alpha", "big": random(1, 3<<20), "c/d": strings.Repeat("text ", 100_000), "empty": ""}).files)
	mustHold(t, r, p2.ID, target.files)
	got, err := r.Point(t.Context(), p2.ID)
	if err != nil || got.Name != "web" || got.Writer != "web1" || !got.SealedWriter || got.Sealed || got.Packs != p2.Packs {
		t.Errorf("the holder sees %+v, %v", got, err)
	}
	if own := mustBackup(t, r, "web", target, backup.Full); own.SealedWriter {
		t.Errorf("the holder's: %+v", own)
	} else if again, err := r.Point(t.Context(), own.ID); err != nil || again.SealedWriter {
		t.Errorf("the holder's: %+v, %v", again, err)
	}
	if rep, err := r.Check(t.Context(), backup.CheckOptions{ReadData: true}); err != nil || !rep.OK() {
		t.Errorf("check: %+v, %v", rep, err)
	}
}

// Everything that reads, and all maintenance, is refused by its name.
func TestSealedRepositoryReadsNothing(t *testing.T) {
	store := providertest.NewMemory()
	holder := newRepo(t, store)
	target := treeOf(map[string]string{"a": "alpha"})
	old := mustBackup(t, holder, "w", target, backup.Full)
	sealed := seal(t, holder, store, "web1")
	own := mustBackup(t, sealed, "w", target, backup.Full)
	before := stored(t, store)
	ctx := t.Context()
	for what, call := range map[string]func() error{
		"View":         func() error { _, err := sealed.View(ctx, old.ID); return err },
		"View its own": func() error { _, err := sealed.View(ctx, own.ID); return err },
		"Restore": func() error {
			return sealed.Restore(ctx, own.ID, target, backup.Destination{}, backup.RestoreOptions{})
		},
		"Check":           func() error { _, err := sealed.Check(ctx, backup.CheckOptions{}); return err },
		"Check with data": func() error { _, err := sealed.Check(ctx, backup.CheckOptions{ReadData: true}); return err },
		"Prune":           func() error { _, err := sealed.Prune(ctx, backup.PruneOptions{}); return err },
		"Prune, dry":      func() error { _, err := sealed.Prune(ctx, backup.PruneOptions{DryRun: true}); return err },
		"Repair":          func() error { _, err := sealed.Repair(ctx, backup.RepairOptions{}); return err },
		"Forget":          func() error { return sealed.Forget(ctx, old.ID) },
		"Seal":            func() error { _, err := sealed.Seal(ctx, "more"); return err },
		"Export": func() error {
			return sealed.Export(ctx, own.ID, target, io.Discard, backup.ExportOptions{Unencrypted: true})
		},
		"Init": func() error {
			c, err := holder.Seal(ctx, "x")
			if err == nil {
				_, err = backup.Init(ctx, backup.Config{Store: providertest.NewMemory(), Credential: c})
			}
			return err
		},
	} {
		if err := call(); !errors.Is(err, backup.ErrSealed) {
			t.Errorf("%s: %v, want ErrSealed", what, err)
		}
	}
	if got := stored(t, store); got != before {
		t.Errorf("the store has %d bytes, had %d", got, before)
	}
	points := collect(t, sealed.Points(ctx, ""))
	if len(points) != 2 {
		t.Fatalf("points: %+v", points)
	}
	for i, want := range []backup.Point{old, own} {
		p := points[i]
		if p.ID != want.ID || !p.Time.Equal(want.Time) || !p.Stored.Equal(want.Stored) || p.Writer != want.Writer || p.SealedWriter != want.SealedWriter || p.Packs != want.Packs {
			t.Errorf("point %d: %+v, want what is known of %+v", i, p, want)
		}
		if !p.Sealed || p.Damaged != "" || p.Name != "" || p.Kind != "" {
			t.Errorf("point %d: %+v, want only what the index key opens", i, p)
		}
	}
}

// What is wrong with a credential is said when it is used, and never what is
// in it.
func TestCredentialMistakes(t *testing.T) {
	store := providertest.NewMemory()
	holder := newRepo(t, store)
	c, err := holder.Seal(t.Context(), "web1")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "a/b", strings.Repeat("x", 65)} {
		if _, err := holder.Seal(t.Context(), name); err == nil {
			t.Errorf("a credential for %q", name)
		}
	}
	other := providertest.NewMemory()
	newRepo(t, other)
	for want, config := range map[string]backup.Config{
		"both set":                  {Store: store, Credential: c, Keyring: keyring()},
		"leave it empty":            {Store: store, Credential: c, Writer: "web2"},
		"the credential is for":     {Store: other, Credential: c},
		"no repository here":        {Store: providertest.NewMemory(), Credential: c},
		"encrypted to":              {Store: store},
		"field Store is nil":        {Credential: c},
		"no identity matches: 0 gi": {Store: store, Writer: "web1"},
	} {
		if _, err := backup.Open(t.Context(), config); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("open: %v, want an error with %q", err, want)
		}
	}
	parsed, err := backup.ParseCredential(c.Text())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := backup.Open(t.Context(), backup.Config{Store: store, Credential: parsed, Writer: "web1"}); err != nil {
		t.Error(err)
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(c.Text(), &fields); err != nil {
		t.Fatal(err)
	}
	d, err := holder.Seal(t.Context(), "web2")
	if err != nil {
		t.Fatal(err)
	}
	var others map[string]json.RawMessage
	if err := json.Unmarshal(d.Text(), &others); err != nil {
		t.Fatal(err)
	}
	for name := range fields {
		for what, v := range map[string]json.RawMessage{"gone": nil, "empty": json.RawMessage(`""`), "another's": others[name]} {
			if string(v) == string(fields[name]) {
				continue
			}
			changed := map[string]json.RawMessage{}
			for k, f := range fields {
				changed[k] = f
			}
			changed[name] = v
			b, err := json.Marshal(changed)
			if err != nil {
				t.Fatal(err)
			}
			_, err = backup.ParseCredential(b)
			if err == nil {
				t.Errorf("%s is %s, and the credential is accepted", name, what)
				continue
			}
			for secret, v := range fields {
				if s := strings.Trim(string(v), `"`); len(s) >= 40 && strings.Contains(err.Error(), s[:40]) {
					t.Errorf("%s is %s: the error tells %s", name, what, secret)
				}
			}
		}
	}
}

// However a credential is printed, its secrets are not.
func TestCredentialIsNotPrinted(t *testing.T) {
	c, err := newRepo(t, providertest.NewMemory()).Seal(t.Context(), "web1")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	for _, v := range []any{c, &c, backup.Config{Credential: c}, []backup.Credential{c}, map[string]any{"c": c}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%t"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		fmt.Fprintln(&out, v)
		for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
			slog.New(h).Info("x", "c", v)
		}
		b, err := json.Marshal(map[string]any{"c": c})
		if err != nil {
			t.Fatal(err)
		}
		out.Write(b)
	}
	var fields map[string]any
	if err := json.Unmarshal(c.Text(), &fields); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{"writer", "seed"} {
		b64 := fields[f].(string)
		if len(b64) < 40 || strings.Contains(out.String(), b64) || strings.Contains(out.String(), b64[:20]) {
			t.Errorf("%s is printed", f)
		}
	}
	for _, form := range []string{"%d", "%x", "%X", "%o", "%v"} {
		if s := fmt.Sprintf(form, c.Text()[20:30]); strings.Contains(out.String(), strings.Trim(s, "[]")) {
			t.Errorf("the text is printed as %s", form)
		}
	}
	if !strings.Contains(out.String(), "redacted") {
		t.Errorf("it is not said that something is left out: %.200s", out.String())
	}
}
