package rfc2136

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/holdfast-go/holdfast/provider"
)

func wrap(op, key string, err error) error {
	if err == nil {
		return nil
	}
	if already, ok := errors.AsType[*provider.Error](err); ok {
		return already
	}
	return &provider.Error{Op: op, Provider: "rfc2136", Key: strings.TrimSpace(key), Err: err}
}

// A refusedError is the word of a server that it has done nothing.
type refusedError struct{ err error }

func (e *refusedError) Error() string { return e.err.Error() }
func (e *refusedError) Unwrap() error { return e.err }

func denied(format string, a ...any) error {
	return &refusedError{fmt.Errorf("%w: %w", fmt.Errorf(format, a...), fs.ErrPermission)}
}

// refused returns an error if the answer says that the message was not even
// looked at: the signature was not accepted, or there is none on the answer
// because the server does not know the key. err is what the check of the
// answer's own signature found.
func (s *session) refused(r *dns.Msg, err error, now time.Time) error {
	c := s.z.c
	algorithm := strings.TrimSuffix(c.Algorithm, ".")
	if t := r.IsTsig(); t != nil {
		switch t.Error {
		case dns.RcodeBadKey:
			return denied("server %s does not know TSIG key %s for %s: check KeyName and Algorithm against the key in the server's configuration", s.server, c.KeyName, algorithm)
		case dns.RcodeBadSig:
			return denied("server %s has another secret for TSIG key %s (BADSIG): check Secret", s.server, c.KeyName)
		case dns.RcodeBadTime:
			return &refusedError{fmt.Errorf("server %s refuses TSIG key %s because the clocks differ (BADTIME)%s: set them, more than %v apart is too much",
				s.server, c.KeyName, apart(t, now), fudge*time.Second)}
		case dns.RcodeSuccess:
		default:
			return denied("server %s refuses TSIG key %s (%s)", s.server, c.KeyName, dns.RcodeToString[int(t.Error)])
		}
		if errors.Is(err, dns.ErrAuth) { // the library checks no signature under NOTAUTH
			return s.rcodeError(dns.RcodeNotAuth)
		}
		if errors.Is(err, dns.ErrTime) {
			return fmt.Errorf("server %s: the clocks differ: its answer was signed at %s, and here it is %s", s.server,
				time.Unix(int64(t.TimeSigned), 0).UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
		}
		return nil
	}
	if err == nil && r.Rcode != dns.RcodeSuccess && r.Rcode != dns.RcodeNameError {
		return fmt.Errorf("unsigned answer: %w", s.rcodeError(r.Rcode))
	}
	return nil
}

// apart is the time that the server has told with BADTIME (RFC 8945 section
// 5.2.3).
func apart(t *dns.TSIG, now time.Time) string {
	b, err := hex.DecodeString(t.OtherData)
	if err != nil || len(b) != 6 {
		return ""
	}
	var seconds int64
	for _, x := range b {
		seconds = seconds<<8 | int64(x)
	}
	server := time.Unix(seconds, 0).UTC()
	return fmt.Sprintf(": it is %s there and %s here, %v apart", server.Format(time.RFC3339), now.UTC().Format(time.RFC3339),
		server.Sub(now).Abs().Round(10*time.Second))
}

// rcodeError is an answer that says no. An operator can do something about
// most of them.
func (s *session) rcodeError(rcode int) error {
	c := s.z.c
	code := dns.RcodeToString[rcode]
	switch rcode {
	case dns.RcodeRefused:
		return denied("server %s refuses (%s): its update policy or access list does not allow this to TSIG key %s in zone %s", s.server, code, c.KeyName, c.Zone)
	case dns.RcodeNotAuth:
		return denied("server %s is not the primary of zone %s, or does not take this from TSIG key %s (%s): check Servers and Zone", s.server, c.Zone, c.KeyName, code)
	case dns.RcodeNotImplemented:
		return &refusedError{fmt.Errorf("server %s takes no updates of zone %s (%s): is it the primary, with dynamic update switched on?", s.server, c.Zone, code)}
	case dns.RcodeNotZone:
		return &refusedError{fmt.Errorf("server %s: a name is not in zone %s (%s)", s.server, c.Zone, code)}
	case dns.RcodeFormatError:
		return &refusedError{fmt.Errorf("server %s does not understand the message (%s)", s.server, code)}
	}
	return fmt.Errorf("server %s answers %s: its log says why", s.server, code)
}
