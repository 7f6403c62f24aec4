package notify_test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"math/big"
	"net"
	"net/textproto"
	"strings"
	"sync"
	"testing"
	"time"
)

// authority makes certificates for the tests and is trusted by nobody else.
type authority struct {
	pool *x509.CertPool
	cert tls.Certificate // for "localhost"
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	key := func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	caKey, serverKey := key(), key()
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	sign := func(c, parent *x509.Certificate, k *ecdsa.PrivateKey) *x509.Certificate {
		der, err := x509.CreateCertificate(rand.Reader, c, parent, &k.PublicKey, caKey)
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return parsed
	}
	root := sign(ca, ca, caKey)
	leaf := sign(&x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: ca.NotBefore, NotAfter: ca.NotAfter, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, root, serverKey)
	a := authority{x509.NewCertPool(), tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: serverKey}}
	a.pool.AddCert(root)
	return a
}

// smtpServer speaks enough of RFC 5321 to take a message, over real
// connections. Its fields say how it behaves; what it has seen is in log.
type smtpServer struct {
	t        *testing.T
	cert     tls.Certificate
	implicit bool              // TLS from the first byte
	noTLS    bool              // offers no STARTTLS
	password string            // wanted with AUTH PLAIN, if not empty
	answers  map[string]string // instead of success, by verb; used up if it ends in " once"
	hangUp   string            // closes the connection when this verb comes
	hang     string            // says nothing more when this verb comes
	hung     chan struct{}     // closed when it has come

	port int
	mu   sync.Mutex
	log  []string // verbs
	mail []string // messages taken
	auth []string // decoded credentials, "tls" or "clear" before them
}

func (s *smtpServer) start() *smtpServer {
	s.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	if s.implicit {
		l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{s.cert}})
	}
	s.port = l.Addr().(*net.TCPAddr).Port
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				s.serve(conn, s.implicit)
			})
		}
	})
	s.t.Cleanup(func() { l.Close(); wg.Wait() })
	return s
}

func (s *smtpServer) note(verb string) (answer string, hangUp, hang bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = append(s.log, verb)
	answer = s.answers[verb]
	if once, ok := strings.CutSuffix(answer, " once"); ok {
		answer = once
		delete(s.answers, verb)
	}
	return answer, s.hangUp == verb, s.hang == verb
}

func (s *smtpServer) serve(conn net.Conn, secure bool) {
	c := textproto.NewConn(conn)
	say := func(line string) { _ = c.PrintfLine("%s", line) } // a client may have gone
	say("220 test server")
	for {
		line, err := c.ReadLine()
		if err != nil {
			return
		}
		verb, rest, _ := strings.Cut(line, " ")
		verb = strings.ToUpper(verb)
		answer, hangUp, hang := s.note(verb)
		switch {
		case hangUp:
			return
		case hang:
			close(s.hung)
			_, _ = bufio.NewReader(conn).ReadByte() // until the client goes
			return
		case answer != "":
			say(answer)
			continue
		}
		switch verb {
		case "EHLO":
			say("250-localhost")
			if !secure && !s.noTLS {
				say("250-STARTTLS")
			}
			if s.password != "" {
				say("250-AUTH PLAIN")
			}
			say("250 8BITMIME")
		case "STARTTLS":
			say("220 go ahead")
			tc := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{s.cert}})
			if tc.Handshake() != nil {
				return
			}
			conn, secure = tc, true
			c = textproto.NewConn(tc)
		case "AUTH":
			b, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(rest, "PLAIN "))
			s.mu.Lock()
			s.auth = append(s.auth, map[bool]string{true: "tls", false: "clear"}[secure]+string(b))
			s.mu.Unlock()
			if string(b) != "\x00ops\x00"+s.password {
				say("535 5.7.8 no such user or password: " + string(b[1:]) + " " + rest) // a chatty server
				continue
			}
			say("235 welcome")
		case "DATA":
			say("354 go on")
			b, err := c.ReadDotBytes()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.mail = append(s.mail, string(b))
			s.mu.Unlock()
			if _, hangUp, _ := s.note("."); hangUp {
				return // taken, and the reply lost
			}
			say("250 taken")
		case "QUIT":
			say("221 bye")
			return
		default:
			say("250 ok")
		}
	}
}

func (s *smtpServer) seen(verb string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, v := range s.log {
		if v == verb {
			n++
		}
	}
	return n
}

func (s *smtpServer) messages() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.mail...)
}
