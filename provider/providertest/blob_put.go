package providertest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/holdfast-go/holdfast/provider"
)

var putClauses = []clause{
	sentence("put-replace", "Put replaces what is there, longer or shorter, for every reader that begins later.", putReplace),
	sentence("put-info", "Put tells Key, Size and Version as Stat would.", putInfo),
	sentence("put-version", "A Put of other bytes yields a Version that the key never had before, also after a delete.", putVersion),
	sentence("put-sha256", "A body without the announced SHA256 is ErrCorrupt, nothing is visible, and an earlier object stays.", putSHA256),
}

func putReplace(ctx context.Context, p *probe) error {
	for _, content := range []string{"first", string(noise(6, 70_000)), "", "last"} {
		if _, err := p.put(ctx, "x", content, provider.PutOptions{}); err != nil {
			return err
		}
		if err := p.holds(ctx, "x", content); err != nil {
			return err
		}
	}
	got, err := p.list(ctx, p.second, "", provider.ListOptions{})
	if err == nil && len(got) != 1 {
		err = fmt.Errorf("list yields %q, want one object", got)
	}
	return err
}

func putInfo(ctx context.Context, p *probe) error {
	before := time.Now()
	put, err := p.put(ctx, "x", "content", provider.PutOptions{})
	if err != nil {
		return err
	}
	info, err := p.store.Stat(ctx, p.key("x"))
	if err != nil {
		return err
	}
	if put.Key != info.Key || put.Size != info.Size || put.Version != info.Version {
		return fmt.Errorf("put says key %q, size %d, version %q; stat says %q, %d, %q",
			put.Key, put.Size, put.Version, info.Key, info.Size, info.Version)
	}
	return checkInfo(info, p.key("x"), "content", before)
}

func putVersion(ctx context.Context, p *probe) error {
	seen := map[provider.Version]string{}
	for i := range 12 {
		content := fmt.Sprintf("content %02d", i)
		info, err := p.put(ctx, "x", content, provider.PutOptions{})
		if err != nil {
			return err
		}
		if earlier, ok := seen[info.Version]; ok {
			return fmt.Errorf("version %q was that of %q and is now that of %q", info.Version, earlier, content)
		}
		seen[info.Version] = content
		if i%4 == 3 {
			if err := p.store.Delete(ctx, p.key("x"), provider.DeleteOptions{}); err != nil {
				return err
			}
		}
	}
	return nil
}

func putSHA256(ctx context.Context, p *probe) error {
	err := p.failingPut(ctx, func(name string) error {
		_, err := p.store.Put(ctx, p.key(name), strings.NewReader("other bytes"), provider.PutOptions{SHA256: sha256.Sum256([]byte("bytes"))})
		return want(err, provider.ErrCorrupt)
	})
	if err != nil {
		return err
	}
	info, err := p.put(ctx, "good", "bytes", provider.PutOptions{SHA256: sha256.Sum256([]byte("bytes"))})
	if err != nil {
		return err
	}
	return errors.Join(p.holds(ctx, "good", "bytes"), checkInfo(info, p.key("good"), "bytes", info.Modified.UTC()))
}

// failingPut calls try, which must make a Put fail and return nil if it failed
// as it should, for a key without an object and for one with an object, and
// checks that both are as before.
func (p *probe) failingPut(ctx context.Context, try func(name string) error) error {
	if err := try("fresh"); err != nil {
		return fmt.Errorf("on a new key: %w", err)
	}
	if err := p.absent(ctx, "fresh"); err != nil {
		return fmt.Errorf("after the failed put: %w", err)
	}
	earlier, err := p.put(ctx, "there", "earlier object", provider.PutOptions{})
	if err != nil {
		return err
	}
	if err := try("there"); err != nil {
		return fmt.Errorf("on a key with an object: %w", err)
	}
	if err := p.holds(ctx, "there", "earlier object"); err != nil {
		return fmt.Errorf("after the failed put: %w", err)
	}
	info, err := p.store.Stat(ctx, p.key("there"))
	if err == nil && info.Version != earlier.Version {
		err = fmt.Errorf("the failed put changed the version from %q to %q", earlier.Version, info.Version)
	}
	return err
}
