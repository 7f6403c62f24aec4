package notify_test

import (
	"bytes"
	"context"
	"errors"
	"net/mail"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/dr/notify"
)

var message = notify.Message{
	Title:    "Point of erp is not\r\nBcc: evil@example.com restorable",
	Text:     "The standby lacks a key.\n.\nSee the runbook.",
	Severity: notify.Critical,
	Key:      "erp/restorable",
	Fields:   []notify.Field{{Name: "workload", Value: "erp"}, {Name: "age", Value: "7h <!channel> & more"}},
}

const secret = "correct-horse-battery"

func known(s string) notify.Secret {
	return func(context.Context) (string, error) { return s, nil }
}

func (s *smtpServer) notifier(a authority, edit ...func(*notify.SMTP)) notify.Notifier {
	s.t.Helper()
	c := notify.SMTP{Host: "localhost", Port: s.port, From: "holdfast@example.com", Roots: a.pool, Timeout: 5 * time.Second}
	if s.password != "" {
		c.User, c.Password = "ops", known(secret)
	}
	for _, e := range edit {
		e(&c)
	}
	ch, err := notify.Parse("email:ops@example.com")
	if err != nil {
		s.t.Fatal(err)
	}
	n, err := notify.Open(notify.Config{Mail: c}, ch)
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

func TestMailIsDelivered(t *testing.T) {
	a := newAuthority(t)
	for name, tc := range map[string]struct {
		server *smtpServer
		edit   func(*notify.SMTP)
		auth   string
	}{
		"STARTTLS and password":     {&smtpServer{password: secret}, func(*notify.SMTP) {}, "tls\x00ops\x00" + secret},
		"STARTTLS":                  {&smtpServer{}, func(*notify.SMTP) {}, ""},
		"implicit TLS and password": {&smtpServer{password: secret, implicit: true}, func(c *notify.SMTP) { c.Encryption = notify.ImplicitTLS }, "tls\x00ops\x00" + secret},
		"none":                      {&smtpServer{noTLS: true}, func(c *notify.SMTP) { c.Encryption = notify.NoEncryption }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := tc.server
			s.t, s.cert = t, a.cert
			s.start()
			if err := s.notifier(a, tc.edit).Notify(t.Context(), message); err != nil {
				t.Fatal(err)
			}
			if tc.auth != strings.Join(s.auth, ";") {
				t.Errorf("credentials %q, want %q", s.auth, tc.auth)
			}
			got := s.messages()
			if len(got) != 1 {
				t.Fatalf("%d messages", len(got))
			}
			m, err := mail.ReadMessage(strings.NewReader(got[0]))
			if err != nil {
				t.Fatal(err)
			}
			if m.Header.Get("Bcc") != "" || !strings.Contains(m.Header.Get("Subject"), "[critical] Point of erp") {
				t.Errorf("headers %v", m.Header)
			}
			for _, h := range []string{"From", "To", "Date", "Message-Id", "References"} {
				if m.Header.Get(h) == "" {
					t.Errorf("no %s", h)
				}
			}
			if m.Header.Get("Auto-Submitted") != "auto-generated" {
				t.Error("an answering machine would answer")
			}
			var body bytes.Buffer
			if _, err := body.ReadFrom(m.Body); err != nil {
				t.Fatal(err)
			}
			for _, part := range []string{"The standby lacks a key.", "See the runbook.", "workload: erp"} {
				if !strings.Contains(body.String(), part) {
					t.Errorf("%q is not in the text:\n%s", part, body.String())
				}
			}
		})
	}
}

func TestMailIsNotSentInTheClear(t *testing.T) {
	a := newAuthority(t)
	s := (&smtpServer{t: t, cert: a.cert, noTLS: true, password: secret}).start()
	err := s.notifier(a).Notify(t.Context(), message)
	if err == nil || !strings.Contains(err.Error(), "STARTTLS") {
		t.Errorf("a server that offers no STARTTLS: %v", err)
	}
	if len(s.auth) != 0 || s.seen("MAIL") != 0 {
		t.Errorf("it saw %v and %v", s.auth, s.log)
	}
	if s.seen("EHLO") != 1 {
		t.Error("it was asked again, which would not help")
	}

	other := newAuthority(t)
	s = (&smtpServer{t: t, cert: other.cert, password: secret}).start()
	if err := s.notifier(a).Notify(t.Context(), message); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a certificate of another authority: %v", err)
	}
	if len(s.auth) != 0 {
		t.Error("the password was sent to a stranger")
	}
}

func TestMailPasswordIsNotInErrors(t *testing.T) {
	a := newAuthority(t)
	s := (&smtpServer{t: t, cert: a.cert, password: "another"}).start()
	err := s.notifier(a).Notify(t.Context(), message)
	if err == nil || strings.Contains(err.Error(), secret) || !strings.Contains(err.Error(), "email:ops@example.com") {
		t.Errorf("wrong password: %v", err)
	}
	for e := err; e != nil; e = errors.Unwrap(e) {
		if strings.Contains(e.Error(), secret) {
			t.Errorf("in the chain: %v", e)
		}
	}
	if len(s.auth) != 1 {
		t.Errorf("a refused password was tried %d times", len(s.auth))
	}
}

func TestMailIsTriedAgain(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	for name, tc := range map[string]struct {
		server   *smtpServer
		messages int
	}{
		"greylisted":    {&smtpServer{answers: map[string]string{"RCPT": "451 4.7.1 come back once"}}, 1},
		"busy":          {&smtpServer{answers: map[string]string{"MAIL": "421 4.3.2 too many once"}}, 1},
		"refused reset": {&smtpServer{answers: map[string]string{"RSET": "500 what"}}, 1},
		"refused adieu": {&smtpServer{hangUp: "QUIT"}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := tc.server
			s.t, s.cert = t, a.cert
			s.start()
			if err := s.notifier(a).Notify(t.Context(), message); err != nil {
				t.Error(err)
			}
			if n := len(s.messages()); n != tc.messages {
				t.Errorf("%d messages, want %d; the server saw %v", n, tc.messages, s.log)
			}
		})
	}
}

// The server takes every message and hangs up before it says so.
func TestMailLostReplyRepeatsTheSameMessage(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	s := (&smtpServer{t: t, cert: a.cert, hangUp: "."}).start()
	if err := s.notifier(a).Notify(t.Context(), message); err == nil {
		t.Error("nobody confirmed, and Notify says it was taken")
	}
	ids := map[string]bool{}
	for _, text := range s.messages() {
		m, err := mail.ReadMessage(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		ids[m.Header.Get("Message-Id")] = true
	}
	if len(s.messages()) < 2 || len(ids) != 1 {
		t.Errorf("%d messages with %d identities", len(s.messages()), len(ids))
	}
}

func TestMailPermanentRefusal(t *testing.T) {
	a := newAuthority(t)
	s := (&smtpServer{t: t, cert: a.cert, answers: map[string]string{"RCPT": "550 5.1.1 unknown"}}).start()
	err := s.notifier(a).Notify(t.Context(), message)
	if err == nil || !strings.Contains(err.Error(), "550") || s.seen("RCPT") != 1 {
		t.Errorf("%v; asked %d times", err, s.seen("RCPT"))
	}
}

// A server that stops answering does not hold up whoever gave a deadline.
func TestMailCancelled(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	s := (&smtpServer{t: t, cert: a.cert, hang: "MAIL", hung: make(chan struct{})}).start()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.notifier(a, func(c *notify.SMTP) { c.Timeout = time.Hour }).Notify(ctx, message) }()
	<-s.hung
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestSMTPFaultsAreNamed(t *testing.T) {
	err := notify.SMTP{Port: -1, From: "x", User: "u", Encryption: "some", Timeout: -1}.Validate()
	for _, field := range []string{"Host", "Port", "From", "Password", "Encryption", "Timeout"} {
		if err == nil || !strings.Contains(err.Error(), "SMTP."+field) {
			t.Errorf("%v does not name %s", err, field)
		}
	}
	err = notify.SMTP{Host: "h", From: "a@example.com", User: "u", Password: known("p"), Encryption: notify.NoEncryption}.Validate()
	if err == nil || !strings.Contains(err.Error(), "readable") {
		t.Error(err)
	}
}
