package providertest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-go/holdfast/provider"
)

var getClauses = []clause{
	sentence("get-whole", "Get delivers the bytes that were put, with the Info of the object.", getWhole),
	sentence("get-empty", "An object of zero bytes is an object.", getEmpty),
	sentence("get-missing", "Get and Stat of a key without an object are ErrNotFound, which matches fs.ErrNotExist.", getMissing),
	sentence("get-range", "Get delivers the range asked for, as far as the object goes, with the Info of the whole object.", getRange),
	sentence("get-range-error", "An Offset at or past the end, or a negative Offset or Length, is ErrRange.", getRangeError),
	sentence("get-version", "Get with a Version delivers exactly that version, or is ErrNotFound.", getVersion),
	sentence("get-open-reader", "A reader opened before a replacement or a delete delivers the version it opened or fails; it never mixes versions.", getOpenReader),
	sentence("get-parallel", "A large object can be read in parallel parts.", getParallel),
	sentence("stat", "Stat describes the object as Get does.", stat),
	sentence("error-type", "Errors are *provider.Error with Op, Provider and Key.", errorType),
	sentence("context", "A call whose ctx has ended changes nothing and fails with an error that matches ctx.Err().", endedContext),
}

func getWhole(ctx context.Context, p *probe) error {
	content := string(noise(1, 100_000)) + "\x00\r\n\xff"
	before := time.Now()
	if _, err := p.put(ctx, "x", content, provider.PutOptions{}); err != nil {
		return err
	}
	if err := p.holds(ctx, "x", content); err != nil {
		return err
	}
	_, info, err := read(ctx, p.store, p.key("x"), provider.GetOptions{})
	if err != nil {
		return err
	}
	return checkInfo(info, p.key("x"), content, before)
}

// checkInfo checks what is certain about the Info of an object. Clocks may
// differ by a day.
func checkInfo(info provider.Info, key, content string, before time.Time) error {
	var errs []error
	if info.Key != key {
		errs = append(errs, fmt.Errorf("Info.Key is %q, want %q", info.Key, key))
	}
	if info.Size != int64(len(content)) {
		errs = append(errs, fmt.Errorf("Info.Size is %d, want %d", info.Size, len(content)))
	}
	if info.Version == "" {
		errs = append(errs, errors.New("Info.Version is empty"))
	}
	if d := info.Modified.Sub(before); d < -24*time.Hour || d > 24*time.Hour {
		errs = append(errs, fmt.Errorf("Info.Modified is %v, and it is %v", info.Modified, before))
	}
	if info.Modified.Location() != time.UTC {
		errs = append(errs, fmt.Errorf("Info.Modified is in %v, want UTC", info.Modified.Location()))
	}
	if info.SHA256 != [32]byte{} && info.SHA256 != sha256.Sum256([]byte(content)) {
		errs = append(errs, fmt.Errorf("Info.SHA256 is %x, want %x or zero", info.SHA256, sha256.Sum256([]byte(content))))
	}
	if !info.Retain.IsZero() {
		errs = append(errs, fmt.Errorf("Info.Retain is %v, and none was asked for", info.Retain))
	}
	return errors.Join(errs...)
}

func getEmpty(ctx context.Context, p *probe) error {
	if _, err := p.put(ctx, "x", "", provider.PutOptions{SHA256: sha256.Sum256(nil)}); err != nil {
		return err
	}
	if err := p.holds(ctx, "x", ""); err != nil {
		return err
	}
	if b, _, err := read(ctx, p.store, p.key("x"), provider.GetOptions{Length: 10}); err != nil || len(b) > 0 {
		return fmt.Errorf("get up to 10 bytes of none: got %d and error %v", len(b), err)
	}
	_, _, err := read(ctx, p.store, p.key("x"), provider.GetOptions{Offset: 1})
	if err := want(err, provider.ErrRange); err != nil {
		return fmt.Errorf("get from offset 1: %w", err)
	}
	got, err := p.list(ctx, p.store, "", provider.ListOptions{})
	if err == nil && len(got) != 1 {
		err = fmt.Errorf("list yields %q, want the empty object", got)
	}
	return err
}

func getMissing(ctx context.Context, p *probe) error {
	if _, err := p.put(ctx, "there/x", "x", provider.PutOptions{}); err != nil {
		return err
	}
	for _, name := range []string{"x", "there", "there/", "there/x/y", "there/y", "ther"} {
		r, _, err := p.store.Get(ctx, p.key(name), provider.GetOptions{})
		if err == nil {
			r.Close()
		}
		_, statErr := p.store.Stat(ctx, p.key(name))
		for _, e := range []error{err, statErr} {
			if errors.Is(e, provider.ErrInvalidKey) {
				continue
			}
			if err := errors.Join(want(e, provider.ErrNotFound), want(e, fs.ErrNotExist)); err != nil {
				return fmt.Errorf("%q: %w", name, err)
			}
		}
	}
	return nil
}

func getRange(ctx context.Context, p *probe) error {
	content := string(noise(2, 10_000))
	if _, err := p.put(ctx, "x", content, provider.PutOptions{}); err != nil {
		return err
	}
	for _, c := range []struct{ off, length, from, to int64 }{
		{0, 0, 0, 10_000}, {0, 1, 0, 1}, {0, 9_999, 0, 9_999}, {0, 10_000, 0, 10_000}, {0, 10_001, 0, 10_000},
		{1, 0, 1, 10_000}, {1, 1, 1, 2}, {4_095, 2, 4_095, 4_097}, {5_000, 5_000, 5_000, 10_000}, {5_000, 5_001, 5_000, 10_000},
		{9_999, 0, 9_999, 10_000}, {9_999, 1, 9_999, 10_000}, {9_999, 1 << 62, 9_999, 10_000},
	} {
		b, info, err := read(ctx, p.store, p.key("x"), provider.GetOptions{Offset: c.off, Length: c.length})
		if err != nil {
			return fmt.Errorf("offset %d, length %d: %w", c.off, c.length, err)
		}
		if err := same(b, []byte(content[c.from:c.to])); err != nil {
			return fmt.Errorf("offset %d, length %d: %w", c.off, c.length, err)
		}
		if info.Size != 10_000 {
			return fmt.Errorf("offset %d, length %d: Info.Size is %d, want that of the whole object", c.off, c.length, info.Size)
		}
	}
	return nil
}

func getRangeError(ctx context.Context, p *probe) error {
	if _, err := p.put(ctx, "x", "0123456789", provider.PutOptions{}); err != nil {
		return err
	}
	for _, o := range []provider.GetOptions{{Offset: 10}, {Offset: 10, Length: 1}, {Offset: 11}, {Offset: 1 << 40, Length: 5}, {Offset: -1}, {Offset: -1, Length: 5}, {Length: -1}} {
		_, _, err := read(ctx, p.store, p.key("x"), o)
		if err := want(err, provider.ErrRange); err != nil {
			return fmt.Errorf("offset %d, length %d of 10 bytes: %w", o.Offset, o.Length, err)
		}
	}
	return nil
}

func getVersion(ctx context.Context, p *probe) error {
	one, err := p.put(ctx, "x", "one", provider.PutOptions{})
	if err != nil {
		return err
	}
	b, _, err := read(ctx, p.store, p.key("x"), provider.GetOptions{Version: one.Version})
	if err == nil {
		err = same(b, []byte("one"))
	}
	if err != nil {
		return fmt.Errorf("get the present version: %w", err)
	}
	two, err := p.put(ctx, "x", "two!", provider.PutOptions{})
	if err != nil {
		return err
	}
	b, info, err := read(ctx, p.store, p.key("x"), provider.GetOptions{Version: two.Version})
	if err == nil && info.Version != two.Version {
		err = fmt.Errorf("Info.Version is %q, want %q", info.Version, two.Version)
	}
	if err == nil {
		err = same(b, []byte("two!"))
	}
	if err != nil {
		return fmt.Errorf("get the present version after a replacement: %w", err)
	}
	b, _, err = read(ctx, p.store, p.key("x"), provider.GetOptions{Version: one.Version, Offset: 1, Length: 2})
	if err == nil && string(b) == "ne" {
		return nil // the store keeps versions
	}
	if err == nil {
		return fmt.Errorf("get part of the replaced version: %q, want %q or ErrNotFound", b, "ne")
	}
	return want(err, provider.ErrNotFound)
}

func getOpenReader(ctx context.Context, p *probe) error {
	old, young := string(noise(3, 2<<20)), string(noise(4, 2<<20))
	for _, c := range []struct {
		name   string
		change func() error
	}{
		{"replace", func() error { _, err := p.put(ctx, "replace", young, provider.PutOptions{}); return err }},
		{"delete", func() error { return p.store.Delete(ctx, p.key("delete"), provider.DeleteOptions{}) }},
	} {
		if _, err := p.put(ctx, c.name, old, provider.PutOptions{}); err != nil {
			return err
		}
		r, _, err := p.store.Get(ctx, p.key(c.name), provider.GetOptions{})
		if err != nil {
			return err
		}
		defer r.Close()
		head := make([]byte, 1000)
		if _, err := io.ReadFull(r, head); err != nil {
			return err
		}
		if err := c.change(); err != nil {
			return fmt.Errorf("%s while a reader is open: %w", c.name, err)
		}
		tail, err := io.ReadAll(r)
		got := append(head, tail...)
		if err == nil {
			err = same(got, []byte(old))
		} else {
			err = same(got, []byte(old[:min(len(got), len(old))])) // it may fail, but not lie
		}
		if err != nil {
			return fmt.Errorf("reader opened before the %s: %w", c.name, err)
		}
	}
	return nil
}

func getParallel(ctx context.Context, p *probe) error {
	const size, part = 5<<20 + 17, 512 << 10
	content := noise(5, size)
	info, err := p.put(ctx, "x", string(content), provider.PutOptions{SHA256: sha256.Sum256(content)})
	if err != nil {
		return err
	}
	got := make([]byte, size)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for off := 0; off < size; off += part {
		g.Go(func() error {
			b, _, err := read(gctx, p.store, p.key("x"), provider.GetOptions{Offset: int64(off), Length: part, Version: info.Version})
			if err == nil && len(b) != min(part, size-off) {
				return fmt.Errorf("at offset %d: got %d bytes, want %d", off, len(b), min(part, size-off))
			}
			copy(got[off:], b)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return same(got, content)
}

func stat(ctx context.Context, p *probe) error {
	before := time.Now()
	if _, err := p.put(ctx, "x", "content", provider.PutOptions{}); err != nil {
		return err
	}
	info, err := p.store.Stat(ctx, p.key("x"))
	if err != nil {
		return err
	}
	if err := checkInfo(info, p.key("x"), "content", before); err != nil {
		return err
	}
	_, got, err := read(ctx, p.second, p.key("x"), provider.GetOptions{})
	if err == nil && (got.Version != info.Version || got.SHA256 != info.SHA256) {
		err = fmt.Errorf("get says version %q and SHA-256 %x, stat %q and %x", got.Version, got.SHA256, info.Version, info.SHA256)
	}
	return err
}

func errorType(ctx context.Context, p *probe) error {
	if _, err := p.put(ctx, "x", "x", provider.PutOptions{}); err != nil {
		return err
	}
	key := p.key("x")
	_, _, rangeErr := p.store.Get(ctx, key, provider.GetOptions{Offset: 5})
	_, _, getErr := p.store.Get(ctx, p.key("missing"), provider.GetOptions{})
	_, statErr := p.store.Stat(ctx, p.key("missing"))
	_, putErr := p.store.Put(ctx, key, provider.Bytes(nil), provider.PutOptions{IfAbsent: true})
	deleteErr := p.store.Delete(ctx, key, provider.DeleteOptions{Version: "no such version"})
	for what, err := range map[string]error{
		"get of a range past the end": rangeErr, "get of a missing key": getErr, "stat of a missing key": statErr,
		"put with IfAbsent of a taken key": putErr, "delete of another version": deleteErr,
	} {
		e, ok := errors.AsType[*provider.Error](err)
		switch {
		case err == nil:
			return fmt.Errorf("%s: no error", what)
		case !ok:
			return fmt.Errorf("%s: error is %T, want it to wrap *provider.Error", what, err)
		case e.Op == "" || e.Provider == "" || e.Key != key && e.Key != p.key("missing"):
			return fmt.Errorf("%s: error has Op %q, Provider %q, Key %q", what, e.Op, e.Provider, e.Key)
		}
	}
	return nil
}

func endedContext(ctx context.Context, p *probe) error {
	if _, err := p.put(ctx, "x", "old", provider.PutOptions{}); err != nil {
		return err
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	_, putErr := p.store.Put(ended, p.key("x"), provider.Bytes([]byte("new")), provider.PutOptions{})
	_, freshErr := p.store.Put(ended, p.key("fresh"), provider.Bytes([]byte("new")), provider.PutOptions{})
	r, _, getErr := p.store.Get(ended, p.key("x"), provider.GetOptions{})
	if getErr == nil {
		r.Close()
	}
	_, statErr := p.store.Stat(ended, p.key("x"))
	deleteErr := p.store.Delete(ended, p.key("x"), provider.DeleteOptions{})
	for what, err := range map[string]error{"put": putErr, "put of a new key": freshErr, "get": getErr, "stat": statErr, "delete": deleteErr} {
		if err := want(err, context.Canceled); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	return errors.Join(p.holds(ctx, "x", "old"), p.absent(ctx, "fresh"))
}
