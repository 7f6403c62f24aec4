package backup

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"
)

// An Archiver is a [Target] whose items have a place in a tar archive: the
// way out of the repository that needs nothing of it. Items of other targets
// become plain files with their description beside it.
type Archiver interface {
	Target

	// TarHeader describes it as an entry. Name and size are filled in by
	// the caller. Nil leaves the item out: tar cannot hold it.
	TarHeader(it Item) (*tar.Header, error)
}

// ExportOptions say how to export. Recipients are required, unless
// Unencrypted is set.
type ExportOptions struct {
	// Recipients can decrypt the archive with the age command. It need not
	// be those of the repository: an auditor's key, or one made for the day.
	Recipients []age.Recipient

	// Unencrypted writes content in the clear. It excludes Recipients.
	Unencrypted bool

	Progress func(Progress) // called now and then, not concurrently, and at the end
}

// Names of the entries that an archive has besides those of the point. They
// come first and last.
const (
	exportPoint  = "HOLDFAST-POINT.json"
	exportErrors = "HOLDFAST-DAMAGED.txt"
)

// Export writes a point to w as a tar archive, compressed by zstd and
// encrypted by age, so that it can be restored where there is no Holdfast:
//
//	age -d -i key.txt point.tar.zst.age | zstd -d | tar -x -p -C DIR
//
// The first entry, HOLDFAST-POINT.json, describes the point. What is damaged
// is filled up with zeroes or left out, and the rest exported; the last
// entry, HOLDFAST-DAMAGED.txt, and the error, which wraps [ErrDamaged], name
// it. After any other error w holds no complete archive, and the tools say
// so. Age encrypts with ChaCha20-Poly1305, not with AES.
func (r *Repository) Export(ctx context.Context, id PointID, t Target, w io.Writer, o ExportOptions) error {
	if err := o.valid(); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	if len(o.Recipients) > 0 {
		if err := r.refuseExport(); err != nil {
			return fmt.Errorf("export: %w", err)
		}
	}
	v, err := r.View(ctx, id)
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	if k := v.Point().Kind; k != t.Kind() {
		return fmt.Errorf("export %s: it is of kind %q, the target is of kind %q", id, k, t.Kind())
	}
	v.report = o.Progress
	if err := v.export(ctx, t, w, o.Recipients); err != nil {
		return fmt.Errorf("export %s: %w", id, err)
	}
	v.tell(0)
	return nil
}

func (o ExportOptions) valid() error {
	switch {
	case o.Unencrypted && len(o.Recipients) > 0:
		return errors.New("field Unencrypted excludes Recipients")
	case !o.Unencrypted && len(o.Recipients) == 0:
		return errors.New("field Recipients is empty: give at least one, or set Unencrypted")
	}
	return nil
}

// export stacks the layers up and takes them down.
func (v *View) export(ctx context.Context, t Target, w io.Writer, to []age.Recipient) error {
	var layers []io.WriteCloser
	if len(to) > 0 {
		sealed, err := age.Encrypt(w, to...)
		if err != nil {
			return fmt.Errorf("field Recipients: %w", err)
		}
		layers, w = append(layers, sealed), sealed
	}
	packed, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(v.r.c.Workers))
	if err != nil {
		return err
	}
	a := &archive{v: v, tar: tar.NewWriter(packed)}
	a.form, _ = t.(Archiver)
	err = a.write(ctx)
	if err == nil {
		err = a.tar.Close()
	}
	if err != nil {
		// Not closed in order: a half archive must not look like a whole one.
		packed.Reset(nil)
		return err
	}
	layers = append(layers, packed)
	for i := len(layers) - 1; i >= 0; i-- {
		if err := layers[i].Close(); err != nil {
			return err
		}
	}
	return a.damage()
}

// An archive is a tar archive being written.
type archive struct {
	v       *View
	tar     *tar.Writer
	form    Archiver // nil: the target has no words for tar
	damaged []string
	leaf    string // the last entry that is no directory: nothing can be below it
}

// damage is the error at the end of an archive that is complete but for what
// it names.
func (a *archive) damage() error {
	if len(a.damaged) == 0 {
		return nil
	}
	few := a.damaged[:min(len(a.damaged), 10)]
	return fmt.Errorf("%w: %d items could not be exported as they were, see %s: %s", ErrDamaged, len(a.damaged), exportErrors, strings.Join(few, "; "))
}

func (a *archive) write(ctx context.Context) error {
	about, err := json.MarshalIndent(a.v.Point(), "", "  ")
	if err != nil {
		return err
	}
	if err := a.text(exportPoint, append(about, '\n')); err != nil {
		return err
	}
	for it, err := range a.v.Items(ctx) {
		if errors.Is(err, ErrDamaged) {
			a.damaged = append(a.damaged, fmt.Sprintf("the list of items is damaged, what follows is missing: %v", err))
			break
		}
		if err != nil {
			return err
		}
		if err := a.item(ctx, it); err != nil {
			return fmt.Errorf("%q: %w", it.Path, err)
		}
		a.v.Wrote(1, it.Size)
	}
	if len(a.damaged) == 0 {
		return nil
	}
	return a.text(exportErrors, []byte(strings.Join(a.damaged, "\n")+"\n"))
}

// text adds an entry of our own.
func (a *archive) text(name string, b []byte) error {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(b)), Mode: 0o600, ModTime: a.v.Point().Time, Format: tar.FormatPAX}
	if err := a.tar.WriteHeader(h); err != nil {
		return err
	}
	_, err := a.tar.Write(b)
	return err
}

// item adds one. Errors are those of w and of the store; damage is noted.
func (a *archive) item(ctx context.Context, it Item) error {
	if !plain(it.Path) {
		a.note(it, "its path could lead out of the directory that it is extracted to; left out")
		return nil
	}
	h, err := a.header(it)
	if err != nil {
		a.note(it, err.Error()+"; left out")
		return nil
	}
	if h == nil {
		return nil
	}
	if a.leaf != "" && strings.HasPrefix(it.Path, a.leaf+"/") {
		a.note(it, fmt.Sprintf("it is below %q, which is no directory; left out", a.leaf))
		return nil
	}
	if h.Typeflag == tar.TypeReg {
		h.Size = it.Size
	}
	if err := a.tar.WriteHeader(h); err != nil {
		if a.tar.Flush() != nil {
			return err
		}
		// The writer is as it was: tar has no form for this entry.
		a.note(it, err.Error()+"; left out")
		return nil
	}
	if h.Typeflag != tar.TypeDir {
		a.leaf = it.Path
	}
	if h.Size == 0 {
		return nil
	}
	return a.content(ctx, it)
}

// plain reports whether a path is relative and leads nowhere but down.
func plain(p string) bool {
	return !strings.HasPrefix(p, "/") && path.Clean(p) == p && p != ".." && !strings.HasPrefix(p, "../")
}

func (a *archive) header(it Item) (*tar.Header, error) {
	if a.form == nil {
		return &tar.Header{
			Typeflag: tar.TypeReg, Name: it.Path, Mode: 0o600, ModTime: a.v.Point().Time, Format: tar.FormatPAX,
			PAXRecords: map[string]string{"HOLDFAST.meta": string(it.Meta)},
		}, nil
	}
	h, err := a.form.TarHeader(it)
	if h != nil {
		h.Name, h.Format = it.Path, tar.FormatPAX
		if h.Typeflag == tar.TypeDir {
			h.Name += "/"
		}
	}
	return h, err
}

// content adds the bytes of an item. What cannot be read becomes zeroes: the
// header has promised so many bytes.
func (a *archive) content(ctx context.Context, it Item) error {
	var done int64
	rc, err := a.v.Open(ctx, it)
	if err == nil {
		done, err = io.Copy(writeOnly{a.tar}, rc)
		err = errors.Join(err, rc.Close())
	}
	if err == nil && done == it.Size {
		return nil
	}
	if err != nil && !errors.Is(err, ErrDamaged) {
		return err
	}
	a.note(it, fmt.Sprintf("%d of %d bytes are there, the rest is zeroes: %v", done, it.Size, err))
	_, err = io.CopyN(writeOnly{a.tar}, zeroes{}, it.Size-done)
	return err
}

func (a *archive) note(it Item, what string) {
	a.damaged = append(a.damaged, fmt.Sprintf("%q: %s", it.Path, what))
}

// writeOnly hides the ReadFrom of a tar.Writer, which would seek.
type writeOnly struct{ io.Writer }

type zeroes struct{}

func (zeroes) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}
