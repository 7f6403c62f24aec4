package backup

import (
	"context"
	"fmt"
	"iter"

	"github.com/holdfast-go/holdfast/provider"
)

// Manifests lists the objects of the log, oldest branch and position first.
// With [Log.Objects] it makes a Log a source of replication: each segment is
// complete by itself and arrives by itself. How far the copy has come without
// a gap is told by [Log.Coverage] of a repository opened on the copy, which
// needs the format object, or a copied point, to be opened.
func (l *Log) Manifests(ctx context.Context) iter.Seq2[provider.Info, error] {
	return func(yield func(provider.Info, error) bool) {
		for info, err := range l.r.c.Store.List(ctx, l.prefix, provider.ListOptions{}) {
			if err != nil {
				err = fmt.Errorf("list log %q: %w", l.name, err)
			}
			if !yield(info, err) || err != nil {
				return
			}
		}
	}
}

// Objects lists nothing: a segment needs no other object.
func (l *Log) Objects(ctx context.Context, key string) iter.Seq2[provider.Info, error] {
	return func(func(provider.Info, error) bool) {}
}
