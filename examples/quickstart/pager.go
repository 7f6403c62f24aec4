package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"path/filepath"
	"time"
)

// pagerProcess receives the notifications: a webhook that writes down what it
// was told and when.
const pagerProcess = "world.pager"

// page is one line of client/pager.jsonl.
type page struct {
	At   time.Time       `json:"at"`
	Body json.RawMessage `json:"body"`
}

func servePager(ctx context.Context, f fleet, name string) error {
	ln, err := f.listen(name)
	if err != nil {
		return err
	}
	path := filepath.Join(f.dir, "client", "pager.jsonl")
	srv := &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
		if err != nil || !json.Valid(b) {
			http.Error(w, "want JSON", http.StatusBadRequest)
			return
		}
		if err := appendLine(path, page{At: time.Now().UTC(), Body: b}); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})}
	if err := f.announce(name, ln.Addr().String()); err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { srv.Close() })
	return srv.Serve(ln)
}
