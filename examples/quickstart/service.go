package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// serviceConfig is what the promoter writes for a service before starting
// it, as config/NAME.json.
type serviceConfig struct {
	Run     string `json:"run"`     // of the quickstart: ports are reused, and others may run beside this one
	Service string `json:"service"` // whose lease at the witness it obeys
	Site    string `json:"site"`
	Epoch   uint64 `json:"epoch"`          // the only one under which it may ever serve
	Data    string `json:"data"`           // its data directory
	Tree    bool   `json:"tree,omitempty"` // serve the directory itself, read-only, instead of a ledger

	// Patience is how long a confirmation of the witness lasts: the longest
	// time for which a primary that was cut off goes on serving.
	Patience time.Duration `json:"patience"`
}

// status is the answer of /healthz.
type status struct {
	Run      string `json:"run"`
	Site     string `json:"site"`
	Epoch    uint64 `json:"epoch"`
	Writable bool   `json:"writable"`
	Why      string `json:"why,omitempty"`    // it is not writable
	Sealed   bool   `json:"sealed,omitempty"` // it never will be again
	Records  int    `json:"records"`          // or files
	Sum      string `json:"sum,omitempty"`    // of the last record
}

// webService is the HTTP service that the quickstart protects.
type webService struct {
	c      serviceConfig
	gate   *gate
	ledger *ledger // nil if it serves a tree
	files  int
}

// serveService is the process NAME.service.
func serveService(ctx context.Context, f fleet, name string) error {
	var c serviceConfig
	if err := readJSON(filepath.Join(f.dir, "config", name+".json"), &c); err != nil {
		return err
	}
	witness, err := layout(f).openStore(witnessSite)
	if err != nil {
		return err
	}
	s := &webService{c: c}
	if c.Tree {
		s.files, err = countFiles(c.Data)
	} else {
		s.ledger, err = openLedger(c.Data)
	}
	if err != nil {
		return err
	}
	if s.gate, err = newGate(filepath.Join(f.dir, c.Site, "intervals.jsonl"), c, witness); err != nil {
		return err
	}
	l, err := f.listen(name)
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: s.handler(), ReadHeaderTimeout: 5 * time.Second}
	if err := f.announce(name, l.Addr().String()); err != nil {
		return err
	}
	go s.gate.watch(ctx)
	go func() {
		<-ctx.Done()
		srv.Close()
	}()
	return srv.Serve(l)
}

func (s *webService) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", s.health)
	if s.c.Tree {
		mux.Handle("GET /", s.readOnly(http.FileServer(http.Dir(s.c.Data))))
	} else {
		mux.HandleFunc("GET /records", s.list)
		mux.HandleFunc("POST /records", s.add)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if run := r.Header.Get(runHeader); run != "" && run != s.c.Run {
			http.Error(w, "this is "+s.c.Run, http.StatusMisdirectedRequest)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// runHeader says whose service a request is meant for.
const runHeader = "Quickstart-Run"

func (s *webService) status() status {
	st := status{Run: s.c.Run, Site: s.c.Site, Epoch: s.c.Epoch, Records: s.files}
	// Asked before the records are counted: what is sealed grows no more.
	err := s.gate.sentry.Check()
	st.Writable, st.Sealed = err == nil, err != nil && s.gate.sealed()
	if err != nil {
		st.Why = err.Error()
	}
	if s.ledger != nil {
		last := s.ledger.last()
		st.Records, st.Sum = last.N, last.Sum
	}
	return st
}

// health is 200 if the service can do its job here and now, else 503: a
// service that is fenced is alive, but nobody should be sent to it.
func (s *webService) health(w http.ResponseWriter, _ *http.Request) {
	st := s.status()
	code := http.StatusOK
	if !st.Writable {
		code = http.StatusServiceUnavailable
	}
	reply(w, code, st)
}

// list returns the records above ?after=N. Reading is allowed on a fenced
// service, too: that is how one sees what it still has.
func (s *webService) list(w http.ResponseWriter, r *http.Request) {
	after, _ := strconv.Atoi(r.URL.Query().Get("after"))
	reply(w, http.StatusOK, s.ledger.from(max(0, after)))
}

// add accepts one record. It is acknowledged only if it is durable and the
// service was writable when it began and still is: a record that was overtaken
// by a fence may be in the file, but nobody was told that it is safe.
func (s *webService) add(w http.ResponseWriter, r *http.Request) {
	var in record
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10)).Decode(&in); err != nil || in.Key == "" {
		http.Error(w, "a record is a JSON object with a key and a text", http.StatusBadRequest)
		return
	}
	var rec record
	err := s.gate.during(func(now int64) (err error) {
		rec, err = s.ledger.append(record{Key: in.Key, Text: in.Text, Site: s.c.Site, Epoch: s.c.Epoch, At: now})
		return err
	})
	if err != nil {
		reply(w, http.StatusServiceUnavailable, map[string]string{"error": err.Error()})
		return
	}
	reply(w, http.StatusCreated, rec)
}

// readOnly serves a tree while the site is in charge.
func (s *webService) readOnly(tree http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := s.gate.sentry.Check(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		tree.ServeHTTP(w, r)
	})
}

func reply(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	json.NewEncoder(w).Encode(v)
}

func countFiles(dir string) (n int, err error) {
	err = filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			n++
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("count files: %w", err)
	}
	return n, nil
}
