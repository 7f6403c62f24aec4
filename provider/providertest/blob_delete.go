package providertest

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-go/holdfast/provider"
)

var deleteClauses = []clause{
	sentence("delete", "Delete removes the object from every Get, Stat and List, and nothing else.", deleteObject),
	sentence("delete-missing", "Delete of a key without an object is no error, with a Version either.", deleteMissing),
}

func deleteObject(ctx context.Context, p *probe) error {
	if err := p.putAll(ctx, []string{"x/1", "x/10", "x/1-", "x/2"}); err != nil {
		return err
	}
	if err := p.store.Delete(ctx, p.key("x/1"), provider.DeleteOptions{}); err != nil {
		return err
	}
	if err := p.absent(ctx, "x/1"); err != nil {
		return err
	}
	for _, name := range []string{"x/10", "x/1-", "x/2"} {
		if err := p.holds(ctx, name, name); err != nil {
			return fmt.Errorf("after the delete of x/1: %w", err)
		}
	}
	if err := p.store.Delete(ctx, p.key("x/1"), provider.DeleteOptions{}); err != nil {
		return fmt.Errorf("repeated: %w", err)
	}
	if _, err := p.put(ctx, "x/1", "again", provider.PutOptions{}); err != nil {
		return err
	}
	return p.holds(ctx, "x/1", "again")
}

func deleteMissing(ctx context.Context, p *probe) error {
	info, err := p.put(ctx, "there/x", "x", provider.PutOptions{})
	if err != nil {
		return err
	}
	for _, name := range []string{"missing", "there", "there/y", "no/such/dir/x"} {
		if err := p.store.Delete(ctx, p.key(name), provider.DeleteOptions{}); err != nil {
			return fmt.Errorf("%q: %w", name, err)
		}
	}
	if err := p.holds(ctx, "there/x", "x"); err != nil {
		return err
	}
	for range 2 {
		err := p.store.Delete(ctx, p.key("there/x"), provider.DeleteOptions{Version: info.Version})
		if errors.Is(err, errors.ErrUnsupported) {
			return nil // as the clause delete-version tells
		}
		if err != nil {
			return fmt.Errorf("with a Version, and repeated: %w", err)
		}
	}
	return nil
}
