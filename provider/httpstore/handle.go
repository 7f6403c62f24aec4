package httpstore

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/holdfast-go/holdfast/provider"
)

// One method for each call of the contract.

func (h *handler) get(a *answer, r *http.Request) error {
	q := r.URL.Query()
	o := provider.GetOptions{Version: provider.Version(q.Get("version"))}
	var errs [2]error
	o.Offset, errs[0] = number(q, "offset")
	o.Length, errs[1] = number(q, "length")
	if err := errors.Join(errs[:]...); err != nil {
		return err
	}
	rc, info, err := h.store.Get(r.Context(), q.Get("key"), o)
	if err != nil {
		return err
	}
	defer rc.Close()
	described, err := toHeader(toWireInfo(info))
	if err != nil {
		return err
	}
	a.Header().Set(headerInfo, described)
	a.begin(http.StatusOK, "application/octet-stream")
	return writeFrames(a, rc, a.extend)
}

func (h *handler) stat(a *answer, r *http.Request) error {
	info, err := h.store.Stat(r.Context(), r.URL.Query().Get("key"))
	if err != nil {
		return err
	}
	return a.json(http.StatusOK, toWireInfo(info))
}

func (h *handler) delete(a *answer, r *http.Request) error {
	q := r.URL.Query()
	err := h.store.Delete(r.Context(), q.Get("key"), provider.DeleteOptions{Version: provider.Version(q.Get("version"))})
	if err != nil {
		return err
	}
	return a.json(http.StatusOK, struct{}{})
}

func (h *handler) lock(a *answer, r *http.Request) error {
	var w wireRetention
	if err := json.NewDecoder(io.LimitReader(r.Body, maxAnswer)).Decode(&w); err != nil {
		return fmt.Errorf("%w: %w", errRequest, err)
	}
	l, ok := provider.As[provider.Locker](h.store)
	if !ok {
		return fmt.Errorf("the store behind the server keeps no retention: %w", errors.ErrUnsupported)
	}
	if err := l.Lock(r.Context(), r.URL.Query().Get("key"), w.retention()); err != nil {
		return err
	}
	return a.json(http.StatusOK, struct{}{})
}

// list sends one line for each object and a last one that says that it is
// the last: without it the listing is not complete.
func (h *handler) list(a *answer, r *http.Request) error {
	q := r.URL.Query()
	a.begin(http.StatusOK, "application/x-ndjson")
	enc := json.NewEncoder(a)
	var n int64
	for info, err := range h.store.List(r.Context(), q.Get("prefix"), provider.ListOptions{StartAfter: q.Get("after")}) {
		a.extend()
		if err != nil {
			we, _ := toWireError(err)
			return errors.Join(err, enc.Encode(wireLine{Error: &we}))
		}
		w := toWireInfo(info)
		if err := enc.Encode(wireLine{Info: &w}); err != nil {
			return err
		}
		n++
	}
	a.extend()
	return enc.Encode(wireLine{End: &wireEnd{Count: n}})
}

func number(q url.Values, name string) (int64, error) {
	if !q.Has(name) {
		return 0, nil
	}
	n, err := strconv.ParseInt(q.Get(name), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%w: %s: %w", errRequest, name, err)
	}
	return n, nil
}
