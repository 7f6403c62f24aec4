package badnet

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// ErrLost is why an answer never comes, or not all of it.
var ErrLost = errors.New("the reply is lost")

// Lost is an answer that never comes: the connection is closed.
func Lost(*http.Response) error { return ErrLost }

// Cut ends an answer in the middle of its body.
func Cut(r *http.Response) error {
	half := max(r.ContentLength/2, 1)
	r.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(io.LimitReader(r.Body, half), failing{}), r.Body}
	return nil
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, ErrLost }

// Becomes makes another answer of one that the server has given, without a
// body that means anything.
func Becomes(status int, header http.Header) func(*http.Response) error {
	return func(r *http.Response) error {
		r.Body.Close()
		r.StatusCode, r.Status = status, fmt.Sprint(status, " ", http.StatusText(status))
		if r.Header = header.Clone(); r.Header == nil {
			r.Header = http.Header{}
		}
		r.ContentLength, r.Body = -1, io.NopCloser(strings.NewReader(""))
		if r.Request.Method == http.MethodHead {
			r.Body = http.NoBody
		}
		return nil
	}
}

// Answers gives an answer that the server never saw the request of.
func Answers(status int, header http.Header, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		for name, values := range header {
			w.Header()[name] = values
		}
		w.WriteHeader(status)
		if r.Method != http.MethodHead {
			io.WriteString(w, body)
		}
	}
}

// Reset resets the connection before the server sees the request.
func Reset(w http.ResponseWriter, r *http.Request) {
	if c, _, err := http.NewResponseController(w).Hijack(); err == nil {
		if tcp, ok := c.(*net.TCPConn); ok {
			tcp.SetLinger(0)
		}
		c.Close()
	}
	panic(http.ErrAbortHandler)
}

// Swallow takes a request and says nothing, until whoever asked goes away.
func Swallow(_ http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body)
	<-r.Context().Done()
	panic(http.ErrAbortHandler)
}

// Withheld is an answer that is never sent on, while the connection stays.
func Withheld(r *http.Response) error {
	<-r.Request.Context().Done()
	return ErrLost
}

// Slow passes a request on a little at a time.
func Slow(_ http.ResponseWriter, r *http.Request) { r.Body = slow{r.Body} }

// Slowly passes an answer on a little at a time.
func Slowly(r *http.Response) error {
	r.Body = slow{r.Body}
	return nil
}

type slow struct{ io.ReadCloser }

func (s slow) Read(p []byte) (int, error) {
	time.Sleep(time.Millisecond)
	return s.ReadCloser.Read(p[:min(len(p), 16<<10)])
}
