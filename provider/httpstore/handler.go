package httpstore

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-go/holdfast/provider"
)

// minToken is the least length of a token in bytes: one that can be guessed
// is none.
const minToken = 16

// HandlerConfig says how a store is served.
type HandlerConfig struct {
	// Token is what clients must present. Required, at least 16 bytes,
	// unless InsecureNoToken says that anybody may do anything.
	Token string

	// InsecureNoToken serves the store to whoever can reach it.
	InsecureNoToken bool

	// MaxObject is the size in bytes of the largest object taken; 0 means
	// 64 GiB.
	MaxObject int64

	// Stall is how long a transfer may stand still before it is broken off;
	// 0 means one minute. There is no limit on a transfer that moves.
	Stall time.Duration

	// TempDir is where uploads of more than 1 MiB wait until they are
	// complete and checked; empty means os.TempDir.
	TempDir string

	// Logger gets refused requests and failures of the store; nil discards.
	Logger *slog.Logger
}

type handler struct {
	store provider.BlobStore
	c     HandlerConfig
	token [sha256.Size]byte
}

// NewHandler serves store at the root of the handler; use [http.StripPrefix]
// to mount it elsewhere. It is safe for concurrent use, as the store is. The
// server it runs in should set ReadHeaderTimeout.
func NewHandler(store provider.BlobStore, c HandlerConfig) (http.Handler, error) {
	var errs []error
	if store == nil {
		errs = append(errs, errors.New("store: is nil"))
	}
	switch {
	case c.Token == "" && !c.InsecureNoToken:
		errs = append(errs, errors.New("HandlerConfig.Token: empty; set one, or InsecureNoToken to let anybody in"))
	case c.Token != "" && c.InsecureNoToken:
		errs = append(errs, errors.New("HandlerConfig.InsecureNoToken: set together with Token"))
	case c.Token != "" && len(c.Token) < minToken:
		errs = append(errs, fmt.Errorf("HandlerConfig.Token: shorter than %d bytes", minToken))
	}
	if c.MaxObject < 0 {
		errs = append(errs, errors.New("HandlerConfig.MaxObject: negative"))
	}
	if c.Stall < 0 {
		errs = append(errs, errors.New("HandlerConfig.Stall: negative"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("httpstore: %w", err)
	}
	if c.MaxObject == 0 {
		c.MaxObject = 64 << 30
	}
	if c.Stall == 0 {
		c.Stall = time.Minute
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	h := &handler{store: store, c: c, token: sha256.Sum256([]byte(c.Token))}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+pathObject, h.serve("get", h.get))
	mux.HandleFunc("PUT "+pathObject, h.serve("put", h.put))
	mux.HandleFunc("DELETE "+pathObject, h.serve("delete", h.delete))
	mux.HandleFunc("GET "+pathStat, h.serve("stat", h.stat))
	mux.HandleFunc("POST "+pathLock, h.serve("lock", h.lock))
	mux.HandleFunc("GET "+pathList, h.serve("list", h.list))
	return mux, nil
}

// serve checks the token, runs f, and sends the error that it returns. An f
// that has begun its answer returns nil, or an error to be logged as sent.
func (h *handler) serve(op string, f func(a *answer, r *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		a := &answer{ResponseWriter: w, control: http.NewResponseController(w), stall: h.c.Stall}
		// A deadline outlives the request on a connection that is kept.
		defer a.control.SetWriteDeadline(time.Time{})
		w.Header().Set(headerProtocol, protocol)
		w.Header().Set("Cache-Control", "no-store")
		err := h.authorize(r)
		if err == nil {
			err = f(a, r)
		}
		if err == nil {
			return
		}
		we, status := toWireError(err)
		// A client that went away is nothing to look into.
		if r.Context().Err() == nil && (status >= 500 || status == http.StatusUnauthorized) {
			h.c.Logger.LogAttrs(r.Context(), slog.LevelWarn, "request not served",
				slog.String("op", op), slog.String("key", r.URL.Query().Get("key")),
				slog.String("remote", r.RemoteAddr), slog.Any("error", err))
		}
		if !a.begun {
			if wait := provider.RetryAfter(err); wait > 0 {
				a.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
			}
			a.json(status, we)
		}
	}
}

func (h *handler) authorize(r *http.Request) error {
	if h.c.InsecureNoToken {
		return nil
	}
	given, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	// Hashes are of one length, so the time tells nothing about the token.
	sum := sha256.Sum256([]byte(given))
	if !ok || subtle.ConstantTimeCompare(sum[:], h.token[:]) != 1 {
		return errToken
	}
	return nil
}

// An answer is a response whose deadlines move along with the transfer.
type answer struct {
	http.ResponseWriter
	control *http.ResponseController
	stall   time.Duration
	begun   bool
}

// extend lets the next write take as long as a stall may be. Writers that
// have no deadlines have no connection that could stall either.
func (a *answer) extend() { a.control.SetWriteDeadline(time.Now().Add(a.stall)) }

func (a *answer) begin(status int, contentType string) {
	a.begun = true
	a.extend()
	a.Header().Set("Content-Type", contentType)
	a.WriteHeader(status)
}

func (a *answer) json(status int, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	a.begin(status, "application/json")
	_, err = a.Write(append(b, '\n'))
	return err
}
