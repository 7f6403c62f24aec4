package local

import (
	"log/slog"
	"net"
	"time"

	"github.com/miekg/dns"
)

const (
	// ednsSize is the size in bytes of the largest UDP answer: what passes
	// every network unfragmented (RFC 9715).
	ednsSize = 1232

	// tsigRoom is what a signature adds to an answer, at most, next to the
	// name of its key.
	tsigRoom = 100

	tsigFudge = 300 // seconds of clock skew allowed; RFC 8945 section 10
)

// ServeDNS answers one message; it is what makes DNSServer a handler of
// package github.com/miekg/dns.
func (s *DNSServer) ServeDNS(w dns.ResponseWriter, r *dns.Msg) {
	m := new(dns.Msg).SetReply(r)
	m.Compress = true
	tsig, opt := r.IsTsig(), r.IsEdns0()
	switch {
	case tsig != nil && !s.signedBy(w, tsig):
		m.Rcode = dns.RcodeNotAuth
		s.c.Logger.Warn("signature refused", "remote", w.RemoteAddr().String(), "key", tsig.Hdr.Name)
		tsig = nil // nothing to sign the answer with
	case opt != nil && opt.Version() != 0:
		m.Rcode = dns.RcodeBadVers
	case r.Opcode == dns.OpcodeQuery:
		s.answer(m, r)
	case r.Opcode == dns.OpcodeUpdate && tsig == nil:
		m.Rcode = dns.RcodeRefused
		s.c.Logger.Warn("unsigned update refused", "remote", w.RemoteAddr().String())
	case r.Opcode == dns.OpcodeUpdate:
		m.Rcode = s.change(r, s.c.Logger.With("remote", w.RemoteAddr().String(), "key", tsig.Hdr.Name))
	default:
		m.Rcode = dns.RcodeNotImplemented
	}
	limit := dns.MaxMsgSize
	if _, udp := w.RemoteAddr().(*net.UDPAddr); udp {
		limit = dns.MinMsgSize
		if opt != nil {
			limit = min(max(limit, int(opt.UDPSize())), ednsSize)
		}
	}
	if opt != nil {
		m.SetEdns0(ednsSize, false)
	}
	if tsig != nil {
		limit -= tsigRoom + len(tsig.Hdr.Name)
	}
	m.Truncate(limit)
	if tsig != nil {
		m.SetTsig(tsig.Hdr.Name, tsig.Algorithm, tsigFudge, time.Now().Unix())
	}
	if err := w.WriteMsg(m); err != nil {
		s.c.Logger.Debug("answer not sent", "error", err)
	}
}

// signedBy reports whether a message has a good signature of a known key. The
// library leaves a message unchecked if it has no keys at all.
func (s *DNSServer) signedBy(w dns.ResponseWriter, t *dns.TSIG) bool {
	_, known := s.keys[t.Hdr.Name]
	return known && dns.CanonicalName(t.Algorithm) == dns.HmacSHA256 && w.TsigStatus() == nil
}

// answer answers a query.
func (s *DNSServer) answer(m, r *dns.Msg) {
	q, z := r.Question[0], s.zone.Load()
	switch {
	case q.Qclass != dns.ClassINET && q.Qclass != dns.ClassANY, !dns.IsSubDomain(z.origin, q.Name):
		m.Rcode = dns.RcodeRefused
		return
	case q.Qtype == dns.TypeAXFR || q.Qtype == dns.TypeIXFR:
		m.Rcode = dns.RcodeRefused
		return
	}
	a := z.lookup(q.Name, q.Qtype)
	m.Authoritative = true
	m.Rcode, m.Answer, m.Ns = a.rcode, a.answer, a.authority
}

// change carries out an update and returns its code when it is on disk.
func (s *DNSServer) change(r *dns.Msg, log *slog.Logger) int {
	s.update.Lock()
	defer s.update.Unlock()
	z := s.zone.Load()
	next, rcode := z.updated(r)
	if rcode != dns.RcodeSuccess {
		log.Info("update refused", "rcode", dns.RcodeToString[rcode])
		return rcode
	}
	if next == z {
		return dns.RcodeSuccess
	}
	if err := s.store.write(next); err != nil {
		log.Error("update not written", "error", err)
		// Whichever zone is on disk is the one to serve, or a restart would
		// change the answers.
		if onDisk, err := s.store.read(); err == nil {
			s.zone.Store(onDisk)
		}
		return dns.RcodeServerFailure
	}
	s.zone.Store(next)
	log.Info("zone updated", "serial", next.soa().Serial)
	return dns.RcodeSuccess
}
