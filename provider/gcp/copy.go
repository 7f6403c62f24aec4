package gcp

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/internal/remote"
)

// CopyFrom implements [provider.Copier], from any bucket at the same Endpoint.
// It looks at the source, and has the service rewrite that generation, by
// several requests if the two are in different places. The credential of this
// store must be allowed to read the source.
func (s *Store) CopyFrom(ctx context.Context, key string, from provider.BlobStore, source provider.Info, o provider.PutOptions) (provider.Info, error) {
	info, err := s.copyFrom(ctx, key, from, source, o)
	if err != nil {
		return provider.Info{}, wrap(ctx, "copy", key, err)
	}
	return info, nil
}

func (s *Store) copyFrom(ctx context.Context, key string, from provider.BlobStore, source provider.Info, o provider.PutOptions) (provider.Info, error) {
	origin, fromKey, ok := provider.Located[*Store](from, source.Key)
	if !ok || origin.c.Endpoint != s.c.Endpoint {
		return provider.Info{}, fmt.Errorf("the source is no bucket at this endpoint: %w", errors.ErrUnsupported)
	}
	w, err := s.begun(ctx, key, o)
	if err != nil {
		return provider.Info{}, err
	}
	generation := int64(-1)
	if source.Version != "" {
		generation = generationOf(source.Version)
	}
	if generation == 0 || checkKey(fromKey) != nil {
		return provider.Info{}, fmt.Errorf("source %q: %w", source.Key, provider.ErrNotFound)
	}
	f, err := origin.head(ctx, fromKey, generation)
	if err = origin.missing(ctx, err); err != nil {
		return provider.Info{}, fmt.Errorf("look at the source: %w", err)
	}
	if err := remote.CheckCopy(o.SHA256, f.SHA256); err != nil {
		return provider.Info{}, err
	}
	if o.Meta == nil {
		w.o.Meta = f.Info.Meta
	}
	w.sums = sums{f.SHA256, f.CRC32C}

	c := w.object().CopierFrom(origin.object(fromKey).Generation(f.Generation))
	c.ContentType = "application/octet-stream"
	c.Metadata = remote.EncodeMeta(w.o.Meta, w.sums.sha, w.name)
	c.Retention = retentionTo(w.o.Retain)
	c.StorageClass = s.c.StorageClass
	c.DestinationKMSKeyName = s.c.KMSKey
	var tries attempts
	a, err := c.Run(tries.watch(ctx))
	if err != nil {
		if a, err = w.outcome(ctx, err, &tries); err != nil {
			return provider.Info{}, err
		}
	}
	if a.CRC32C != w.sums.crc || a.Size != f.Info.Size || a.Generation <= 0 {
		return provider.Info{}, fmt.Errorf("the service has stored something else, as generation %d: %w", a.Generation, provider.ErrCorrupt)
	}
	return w.info(a), nil
}
