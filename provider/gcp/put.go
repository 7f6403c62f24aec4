package gcp

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"net/http"
	"time"

	"cloud.google.com/go/storage"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/internal/remote"
)

// Put implements [provider.BlobStore]. It takes effect when the service has
// answered the last request. A body larger than Config.PartSize is read twice,
// first for its sums, unless it is [provider.Summed]; it must be the same both
// times. In a bucket with versions a Put over an object under retention makes a
// newer version.
func (s *Store) Put(ctx context.Context, key string, body provider.Body, o provider.PutOptions) (provider.Info, error) {
	info, err := s.put(ctx, key, body, o)
	if err != nil {
		return provider.Info{}, wrap(ctx, "put", key, err)
	}
	return info, nil
}

func (s *Store) put(ctx context.Context, key string, body provider.Body, o provider.PutOptions) (provider.Info, error) {
	w, err := s.begun(ctx, key, o)
	if err != nil {
		return provider.Info{}, err
	}
	a, err := w.send(ctx, body)
	if err != nil {
		return provider.Info{}, err
	}
	return w.info(a), nil
}

// begun checks what is asked of a write.
func (s *Store) begun(ctx context.Context, key string, o provider.PutOptions) (*write, error) {
	if err := errors.Join(ctx.Err(), checkKey(key), remote.CheckMeta(o.Meta), remote.CheckRetention(o.Retain)); err != nil {
		return nil, err
	}
	if o.IfAbsent && o.IfMatch != "" || o.IfMatch != "" && generationOf(o.IfMatch) == 0 {
		return nil, provider.ErrConflict // holds for no object
	}
	w := &write{s: s, key: key, o: o, name: rand.Text()}
	if !o.Retain.IsZero() {
		if err := s.takesLocks(ctx); err != nil {
			return nil, err
		}
		w.o.Retain.Until = remote.WholeSeconds(o.Retain.Until)
	}
	return w, nil
}

// info is what the service says that it has stored.
func (w *write) info(a *storage.ObjectAttrs) provider.Info {
	w.s.found.Store(true)
	return provider.Info{Key: w.key, Size: a.Size, Modified: a.Created.UTC(), Version: versionOf(a.Generation), SHA256: w.sums.sha, Meta: maps.Clone(w.o.Meta), Retain: w.o.Retain}
}

// A write is one Put. Its name goes into the metadata, the same in every
// attempt, so that a Put whose reply was lost finds out that it succeeded.
type write struct {
	s    *Store
	key  string
	o    provider.PutOptions
	name string
	sums sums
}

// sums are those of a whole body.
type sums struct {
	sha [32]byte
	crc uint32
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// send reads the body and stores it.
func (w *write) send(ctx context.Context, body provider.Body) (*storage.ObjectAttrs, error) {
	if body.Size() > w.s.c.PartSize {
		if err := w.sum(ctx, body); err != nil {
			return nil, err
		}
		return w.inPieces(ctx, body)
	}
	// The bytes that are hashed are the bytes that are sent: a body may change.
	b := make([]byte, body.Size())
	if err := remote.ReadPart(ctx, body, b, 0); err != nil {
		return nil, err
	}
	w.sums.crc = crc32.Checksum(b, castagnoli)
	if known, ok := body.(provider.Summed); ok {
		if w.sums.crc != known.CRC32C() {
			return nil, fmt.Errorf("the body changed since it was summed: %w", provider.ErrCorrupt)
		}
		w.sums.sha = known.SHA256()
	} else {
		w.sums.sha = sha256.Sum256(b)
	}
	if err := w.announced(); err != nil {
		return nil, err
	}
	return w.whole(ctx, b)
}

// sum reads a body for its sums, which the service is told at the beginning of
// an upload.
func (w *write) sum(ctx context.Context, body provider.Body) error {
	if known, ok := body.(provider.Summed); ok {
		w.sums = sums{known.SHA256(), known.CRC32C()}
		return w.announced()
	}
	sha, crc := sha256.New(), crc32.New(castagnoli)
	if err := eachPiece(ctx, body, func(b []byte) error {
		sha.Write(b)
		crc.Write(b)
		return nil
	}); err != nil {
		return err
	}
	w.sums = sums{[32]byte(sha.Sum(nil)), crc.Sum32()}
	return w.announced()
}

func (w *write) announced() error {
	if w.o.SHA256 != [32]byte{} && w.o.SHA256 != w.sums.sha {
		return provider.ErrCorrupt
	}
	return nil
}

// eachPiece reads a body from its beginning to its end.
func eachPiece(ctx context.Context, body provider.Body, do func([]byte) error) error {
	b := make([]byte, min(1<<20, body.Size()))
	for off := int64(0); off < body.Size(); {
		piece := b[:min(int64(len(b)), body.Size()-off)]
		if err := remote.ReadPart(ctx, body, piece, off); err != nil {
			return err
		}
		if err := do(piece); err != nil {
			return err
		}
		off += int64(len(piece))
	}
	return nil
}

// object is what is written, under the conditions of the write.
func (w *write) object() *storage.ObjectHandle {
	o := w.s.object(w.key)
	switch {
	case w.o.IfAbsent:
		return o.If(storage.Conditions{DoesNotExist: true})
	case w.o.IfMatch != "":
		return o.If(storage.Conditions{GenerationMatch: generationOf(w.o.IfMatch)})
	}
	return o
}

// writer prepares one upload. A chunk of 0 is a single request.
func (w *write) writer(ctx context.Context, chunk int64, retry ...storage.RetryOption) *storage.Writer {
	u := w.object().Retryer(retry...).NewWriter(ctx)
	u.ChunkSize = int(chunk)
	u.ContentType = "application/octet-stream"
	u.Metadata = remote.EncodeMeta(w.o.Meta, w.sums.sha, w.name)
	u.CRC32C, u.SendCRC32C = w.sums.crc, true
	u.Retention = retentionTo(w.o.Retain)
	u.StorageClass = w.s.c.StorageClass
	u.KMSKeyName = w.s.c.KMSKey
	return u
}

// whole stores bytes by one request, which is made again as a whole.
func (w *write) whole(ctx context.Context, b []byte) (*storage.ObjectAttrs, error) {
	var tries attempts
	pause, renewed := backoff(), w.s.c.Anonymous
	for attempt := 1; ; attempt++ {
		a, err := w.once(tries.watch(ctx), b)
		if err == nil {
			return a, nil
		}
		if statusOf(err) == http.StatusUnauthorized && !renewed {
			renewed = true // there is another token now
			continue
		}
		if attempt == w.s.c.Attempts || ctx.Err() != nil || !storage.ShouldRetry(err) {
			return w.outcome(ctx, err, &tries)
		}
		select {
		case <-ctx.Done():
			return w.outcome(ctx, ctx.Err(), &tries)
		case <-time.After(pause.Pause()):
		}
	}
}

func (w *write) once(ctx context.Context, b []byte) (*storage.ObjectAttrs, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	u := w.writer(ctx, 0, storage.WithPolicy(storage.RetryNever))
	_, err := u.Write(b)
	if closeErr := u.Close(); err == nil || closeErr != nil && err == io.ErrClosedPipe {
		err = closeErr
	}
	if err != nil {
		return nil, err
	}
	return w.committed(u)
}

// committed is what the service says that it has stored.
func (w *write) committed(u *storage.Writer) (*storage.ObjectAttrs, error) {
	a := u.Attrs()
	if a.CRC32C != w.sums.crc || a.Generation <= 0 {
		return nil, fmt.Errorf("the service has stored something else, as generation %d: %w", a.Generation, provider.ErrCorrupt)
	}
	return a, nil
}

// promises says of what an error means that nothing was changed: the source of
// a copy, too, may be gone only since.
func promises(meaning error) bool {
	return meaning == provider.ErrConflict || meaning == provider.ErrLocked || meaning == provider.ErrNotFound
}

// outcome finds out what became of an upload that failed with err. What may
// have been carried out is looked up: the object of this very Put is success.
func (w *write) outcome(ctx context.Context, err error, tries *attempts) (*storage.ObjectAttrs, error) {
	if !tries.mayHave(err) || errors.Is(err, provider.ErrCorrupt) {
		return nil, err
	}
	look, cancel := remote.Aftermath(ctx)
	defer cancel()
	f, readErr := w.s.head(look, w.key, -1)
	switch {
	case readErr == nil && f.write == w.name:
		return f.ObjectAttrs, nil
	case tries.unanswered.Load() && promises(meaningOf(err)):
		// An attempt without an answer came before the one that was refused.
		// It may have succeeded, and been replaced since.
		return nil, fmt.Errorf("outcome unknown: an earlier attempt was not answered, and then: %s", err)
	}
	return nil, err
}
