package notify

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"strings"
	"time"

	"github.com/wneessen/go-mail"
)

// Encryption says how the connection to a mail server is protected.
type Encryption string

const (
	// StartTLS begins in the clear and goes no further if the server does
	// not offer STARTTLS (RFC 3207). Port 587.
	StartTLS Encryption = ""
	// ImplicitTLS encrypts from the first byte (RFC 8314). Port 465.
	ImplicitTLS Encryption = "implicit"
	// NoEncryption sends everything readable. It refuses to send a password.
	// Port 25.
	NoEncryption Encryption = "none"
)

// SMTP says how to hand over e-mail.
type SMTP struct {
	Host string // name of the server, as in its certificate
	Port int    // 0 means the port of Encryption
	From string // the sender's address

	User     string // empty means no authentication
	Password Secret // required with User

	Encryption Encryption
	Roots      *x509.CertPool // who may have signed the certificate; nil means the system's

	Timeout time.Duration // of one attempt; 0 means 30 s
}

// Validate returns every fault of the configuration.
func (s SMTP) Validate() error {
	var errs []error
	if s.Host == "" {
		errs = append(errs, errors.New("SMTP.Host: required"))
	}
	if s.Port < 0 || s.Port > 65535 {
		errs = append(errs, fmt.Errorf("SMTP.Port: %d is not a port", s.Port))
	}
	if err := checkAddress(s.From); err != nil {
		errs = append(errs, fmt.Errorf("SMTP.From: %w", err))
	}
	if (s.User == "") != (s.Password == nil) {
		errs = append(errs, errors.New("SMTP.User and SMTP.Password: give both or neither"))
	}
	switch s.Encryption {
	case StartTLS, ImplicitTLS:
	case NoEncryption:
		if s.User != "" {
			errs = append(errs, errors.New("SMTP.Encryption: none would send the password readable"))
		}
	default:
		errs = append(errs, fmt.Errorf("SMTP.Encryption: %q is none of %q, %q, %q", s.Encryption, StartTLS, ImplicitTLS, NoEncryption))
	}
	if s.Timeout < 0 {
		errs = append(errs, fmt.Errorf("SMTP.Timeout: %v is negative", s.Timeout))
	}
	return errors.Join(errs...)
}

func (s SMTP) port() int {
	return cmp.Or(s.Port, map[Encryption]int{StartTLS: 587, ImplicitTLS: 465, NoEncryption: 25}[s.Encryption])
}

// email hands a message to the mail server. That the server has taken it is
// all that can be known.
type email struct {
	SMTP
	channel Channel
}

func (e email) Notify(ctx context.Context, m Message) error {
	if err := e.send(ctx, m); err != nil {
		return fmt.Errorf("notify %s: %w", e.channel, err)
	}
	return nil
}

func (e email) send(ctx context.Context, m Message) error {
	if err := m.Validate(); err != nil {
		return err
	}
	// Every attempt sends the same identity, so that a mailbox can tell a
	// repetition from a second message.
	id := rand.Text() + "@holdfast.invalid"
	password := ""
	if e.Password != nil {
		var err error
		if password, err = e.Password(ctx); err != nil {
			return fmt.Errorf("SMTP.Password: %w", err)
		}
	}
	return retry(ctx, func(ctx context.Context) error {
		msg, err := e.compose(m, id)
		if err != nil {
			return err
		}
		return withhold(e.deliver(ctx, msg, password), e.User, password)
	})
}

func (e email) compose(m Message, id string) (*mail.Msg, error) {
	msg := mail.NewMsg()
	if err := errors.Join(msg.From(e.From), msg.To(e.channel.Target)); err != nil {
		return nil, err
	}
	msg.Subject("[" + string(m.Severity) + "] " + oneLine(m.Title))
	msg.SetMessageIDWithValue(id)
	msg.SetDate()
	msg.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834: no out-of-office replies
	if m.Severity == Critical {
		msg.SetImportance(mail.ImportanceHigh)
	}
	if m.Key != "" { // gathers the messages about one matter in one thread
		msg.SetGenHeader(mail.HeaderReferences, fmt.Sprintf("<%x@holdfast.invalid>", sha256.Sum256([]byte(m.Key))))
	}
	var b strings.Builder
	if m.Text != "" {
		b.WriteString(m.Text + "\n\n")
	}
	for _, f := range m.Fields {
		fmt.Fprintf(&b, "%s: %s\n", f.Name, f.Value)
	}
	msg.SetBodyString(mail.TypeTextPlain, b.String())
	return msg, nil
}

// deliver makes one attempt.
func (e email) deliver(ctx context.Context, msg *mail.Msg, password string) error {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(e.Timeout, 30*time.Second))
	defer cancel()
	options := []mail.Option{
		mail.WithPort(e.port()),
		mail.WithTimeout(cmp.Or(e.Timeout, 30*time.Second)),
		mail.WithTLSConfig(e.tlsConfig()),
		mail.WithTLSPolicy(map[Encryption]mail.TLSPolicy{
			StartTLS: mail.TLSMandatory, ImplicitTLS: mail.TLSOpportunistic, NoEncryption: mail.NoTLS,
		}[e.Encryption]),
		mail.WithDialContextFunc(func(_ context.Context, network, address string) (net.Conn, error) {
			conn, err := e.dial(ctx, network, address)
			if err == nil {
				// The client looks at no context once it is connected, and
				// leaves connections open that it gave up.
				context.AfterFunc(ctx, func() { conn.Close() })
			}
			return conn, err
		}),
	}
	if e.User != "" {
		options = append(options, mail.WithSMTPAuth(mail.SMTPAuthAutoDiscover), mail.WithUsername(e.User), mail.WithPassword(password))
	}
	c, err := mail.NewClient(e.Host, options...)
	if err != nil {
		return err
	}
	err = c.DialAndSendWithContext(ctx, msg)
	switch {
	case err == nil, msg.IsDelivered():
		return nil // taken, even if the farewell went wrong
	case passes(err):
		return &passing{error: err}
	}
	return err
}

func (e email) tlsConfig() *tls.Config {
	return &tls.Config{ServerName: e.Host, RootCAs: e.Roots, MinVersion: tls.VersionTLS12}
}

func (e email) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if e.Encryption == ImplicitTLS {
		return (&tls.Dialer{Config: e.tlsConfig()}).DialContext(ctx, network, address)
	}
	return (&net.Dialer{}).DialContext(ctx, network, address)
}

// passes reports whether another attempt may fare better: the server said so
// (4yz, RFC 5321 section 4.2.1), or said nothing.
func passes(err error) bool {
	if s, ok := errors.AsType[*mail.SendError](err); ok {
		return s.IsTemp() || s.ErrorCode() == 0
	}
	if t, ok := errors.AsType[*textproto.Error](err); ok {
		return t.Code/100 == 4
	}
	_, ok := errors.AsType[net.Error](err)
	return ok || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// withhold replaces an error whose text repeats the password, as a server may
// do in its answer.
func withhold(err error, user, password string) error {
	if err == nil || password == "" {
		return err
	}
	for _, form := range []string{
		password,
		base64.StdEncoding.EncodeToString([]byte(password)),
		base64.StdEncoding.EncodeToString([]byte("\x00" + user + "\x00" + password)),
	} {
		if strings.Contains(err.Error(), form) {
			withheld := errors.New("the server's answer is withheld, for it repeats the password")
			if _, again := errors.AsType[*passing](err); again {
				return &passing{error: withheld}
			}
			return withheld
		}
	}
	return err
}
