package httpstore

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/holdfast-go/holdfast/provider"
)

// memoryUpload is the size in bytes up to which an upload is held in memory.
const memoryUpload = 1 << 20

// put receives the whole upload, checks it, and only then hands it to the
// store: what breaks off or arrives damaged never gets there.
func (h *handler) put(a *answer, r *http.Request) error {
	key := r.URL.Query().Get("key")
	var w wirePut
	if err := fromHeader(r.Header, headerPut, &w); err != nil {
		return fmt.Errorf("%w: %w", errRequest, err)
	}
	sum, err := fromHex(w.SHA256)
	if err != nil || w.SHA256 == "" {
		return fmt.Errorf("%w: no SHA-256 of the content", errRequest)
	}
	if r.ContentLength < 0 {
		return fmt.Errorf("%w: no Content-Length", errRequest)
	}
	if r.ContentLength > h.c.MaxObject {
		return fmt.Errorf("%w: %d bytes, at most %d", errTooLarge, r.ContentLength, h.c.MaxObject)
	}
	o := provider.PutOptions{
		IfAbsent: w.IfAbsent, IfMatch: provider.Version(w.IfMatch),
		SHA256: sum, Meta: w.Meta, Retain: w.Retain.retention(),
	}
	if r.ContentLength > memoryUpload {
		if err := h.hopeless(r, key, o); err != nil {
			return err
		}
	}
	body, cleanup, err := h.receive(a, r, sum)
	if err != nil {
		return err
	}
	defer cleanup()
	info, err := h.store.Put(r.Context(), key, body, o)
	if err != nil {
		return err
	}
	return a.json(http.StatusOK, toWireInfo(info))
}

// hopeless refuses a large upload whose condition does not hold before it is
// sent. Whether the condition holds is still for Put to decide.
func (h *handler) hopeless(r *http.Request, key string, o provider.PutOptions) error {
	if !o.IfAbsent && o.IfMatch == "" {
		return nil
	}
	info, err := h.store.Stat(r.Context(), key)
	if (err == nil && (o.IfAbsent || info.Version != o.IfMatch)) ||
		(errors.Is(err, provider.ErrNotFound) && o.IfMatch != "") {
		return provider.ErrConflict
	}
	return nil
}

// receive reads the upload into memory or a temporary file and checks it.
func (h *handler) receive(a *answer, r *http.Request, want [32]byte) (provider.Body, func(), error) {
	in := &stallReader{r: r.Body, a: a}
	hash := sha256.New()
	var body provider.Body
	cleanup := func() {}
	if r.ContentLength <= memoryUpload {
		b := make([]byte, r.ContentLength)
		if _, err := io.ReadFull(in, b); err != nil {
			return nil, nil, broken(err)
		}
		hash.Write(b)
		body = bytes.NewReader(b)
	} else {
		f, err := os.CreateTemp(h.c.TempDir, "holdfast-upload-*")
		if err != nil {
			return nil, nil, fmt.Errorf("receive upload: %w", err)
		}
		// Removed at once where an open file can be, so that a server that
		// is killed leaves nothing; else when the upload is done.
		gone := os.Remove(f.Name()) == nil
		cleanup = func() {
			f.Close()
			if !gone {
				os.Remove(f.Name())
			}
		}
		if _, err := io.CopyN(io.MultiWriter(f, hash), in, r.ContentLength); err != nil {
			cleanup()
			return nil, nil, broken(err)
		}
		body = io.NewSectionReader(f, 0, r.ContentLength)
	}
	if [32]byte(hash.Sum(nil)) != want {
		cleanup()
		return nil, nil, fmt.Errorf("receive upload: %w", provider.ErrCorrupt)
	}
	return body, cleanup, nil
}

func broken(err error) error {
	return fmt.Errorf("%w: receive upload: %w", errRequest, noEOF(err))
}

// A stallReader gives every read of an upload the same time.
type stallReader struct {
	r io.Reader
	a *answer
}

func (s *stallReader) Read(p []byte) (int, error) {
	s.a.control.SetReadDeadline(time.Now().Add(s.a.stall))
	return s.r.Read(p)
}
