package httpstore

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"time"

	"github.com/holdfast-go/holdfast/provider"
)

// What goes over the wire. Keys travel as query parameters, where "..",
// "a//b" and "%2f" survive every hop; in a path they would not.
const (
	pathObject = "/v1/object" // GET, PUT, DELETE ?key=
	pathStat   = "/v1/stat"   // GET ?key=
	pathLock   = "/v1/lock"   // POST ?key=, a wireRetention as the body
	pathList   = "/v1/list"   // GET ?prefix=&after=

	// headerProtocol is in every answer of a handler. An answer without it
	// comes from something else and says nothing about the store.
	headerProtocol = "Holdfast-Protocol"
	protocol       = "1"

	headerInfo = "Holdfast-Info" // with an object: its wireInfo
	headerPut  = "Holdfast-Put"  // with an upload: its wirePut

	maxKey    = 1024    // bytes, by the contract
	maxAnswer = 1 << 16 // bytes of JSON in one answer or line
)

type wireInfo struct {
	Key      string            `json:"key"`
	Size     int64             `json:"size"`
	Modified time.Time         `json:"modified"`
	Version  string            `json:"version"`
	SHA256   string            `json:"sha256,omitempty"` // hexadecimal
	Meta     map[string]string `json:"meta,omitempty"`
	Retain   *wireRetention    `json:"retain,omitempty"`
}

type wireRetention struct {
	Mode  string    `json:"mode"`
	Until time.Time `json:"until"`
}

// wirePut is what a Put asks for. SHA256 is always there.
type wirePut struct {
	IfAbsent bool              `json:"if_absent,omitempty"`
	IfMatch  string            `json:"if_match,omitempty"`
	SHA256   string            `json:"sha256"`
	Meta     map[string]string `json:"meta,omitempty"`
	Retain   *wireRetention    `json:"retain,omitempty"`
}

// A wireLine is one line of a listing: an object, or its end, or why it
// broke off.
type wireLine struct {
	Info  *wireInfo  `json:"info,omitempty"`
	End   *wireEnd   `json:"end,omitempty"`
	Error *wireError `json:"error,omitempty"`
}

// wireEnd closes a listing and says how many objects it had.
type wireEnd struct {
	Count int64 `json:"count"`
}

// wireError is the body of every answer that is not a success.
type wireError struct {
	Code string `json:"code"`
	Text string `json:"text"`
}

func toWireRetention(r provider.Retention) *wireRetention {
	if r.IsZero() {
		return nil
	}
	return &wireRetention{Mode: string(r.Mode), Until: r.Until}
}

func (r *wireRetention) retention() provider.Retention {
	if r == nil {
		return provider.Retention{}
	}
	return provider.Retention{Mode: provider.LockMode(r.Mode), Until: r.Until.UTC()}
}

func toWireInfo(i provider.Info) wireInfo {
	return wireInfo{
		Key: i.Key, Size: i.Size, Modified: i.Modified.UTC(), Version: string(i.Version),
		SHA256: toHex(i.SHA256), Meta: i.Meta, Retain: toWireRetention(i.Retain),
	}
}

func (w wireInfo) info() (provider.Info, error) {
	sum, err := fromHex(w.SHA256)
	if err != nil {
		return provider.Info{}, err
	}
	if w.Size < 0 {
		return provider.Info{}, fmt.Errorf("%q has a size of %d", w.Key, w.Size)
	}
	return provider.Info{
		Key: w.Key, Size: w.Size, Modified: w.Modified.UTC(), Version: provider.Version(w.Version),
		SHA256: sum, Meta: w.Meta, Retain: w.Retain.retention(),
	}, nil
}

func toHex(sum [32]byte) string {
	if sum == ([32]byte{}) {
		return ""
	}
	return hex.EncodeToString(sum[:])
}

func fromHex(s string) (sum [32]byte, err error) {
	if s == "" {
		return sum, nil
	}
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(sum) {
		return sum, fmt.Errorf("%q is not a SHA-256 in hexadecimal", s)
	}
	return [32]byte(b), nil
}

// A header value is ASCII; JSON with keys and metadata in it need not be. A
// time beyond the year 9999 is an error.
func toHeader(v any) (string, error) {
	b, err := json.Marshal(v)
	return base64.RawURLEncoding.EncodeToString(b), err
}

func fromHeader(h http.Header, name string, v any) error {
	b, err := base64.RawURLEncoding.DecodeString(h.Get(name))
	if err == nil {
		err = json.Unmarshal(b, v)
	}
	if err != nil {
		return fmt.Errorf("header %s: %w", name, err)
	}
	return nil
}

// Errors that cross the wire by name. The order matters where an error is
// several of them: the first one is sent.
var codes = []struct {
	code   string
	status int
	is     error
}{
	{"not-found", http.StatusNotFound, provider.ErrNotFound},
	{"conflict", http.StatusConflict, provider.ErrConflict},
	{"locked", http.StatusLocked, provider.ErrLocked},
	{"corrupt", http.StatusUnprocessableEntity, provider.ErrCorrupt},
	{"cold", http.StatusConflict, provider.ErrCold},
	{"range", http.StatusRequestedRangeNotSatisfiable, provider.ErrRange},
	{"invalid-key", http.StatusBadRequest, provider.ErrInvalidKey},
	{"unsupported", http.StatusNotImplemented, errors.ErrUnsupported},
	{"permission", http.StatusForbidden, fs.ErrPermission},
	{throttledCode, http.StatusTooManyRequests, provider.ErrThrottled},
}

// throttledCode goes with a Retry-After, where the store behind has said one.
const throttledCode = "throttled"

// Errors of the handler itself.
var (
	errToken    = errors.New("the token is missing or wrong")
	errTooLarge = errors.New("object is larger than the server takes")
	errRequest  = errors.New("malformed request")
)

func toWireError(err error) (wireError, int) {
	text := err.Error()
	if pe, ok := errors.AsType[*provider.Error](err); ok && pe.Err != nil {
		text = pe.Provider + ": " + pe.Err.Error() // the client adds op and key
	}
	switch {
	case errors.Is(err, errToken):
		return wireError{"permission", text}, http.StatusUnauthorized
	case errors.Is(err, errTooLarge):
		return wireError{"too-large", text}, http.StatusRequestEntityTooLarge
	case errors.Is(err, errRequest):
		return wireError{"request", text}, http.StatusBadRequest
	}
	for _, c := range codes {
		if errors.Is(err, c.is) {
			return wireError{c.code, text}, c.status
		}
	}
	return wireError{"internal", text}, http.StatusInternalServerError
}

// remoteError is an error of the server: its text, and the sentinel it names.
type remoteError struct {
	text string
	is   error
}

func (e *remoteError) Error() string { return e.text }
func (e *remoteError) Unwrap() error { return e.is }

func (w wireError) err() error {
	for _, c := range codes {
		if c.code == w.Code {
			return &remoteError{w.Text, c.is}
		}
	}
	return &remoteError{text: fmt.Sprintf("%s: %s", w.Code, w.Text)}
}
