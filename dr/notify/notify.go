// Package notify tells people: by e-mail, in Slack, or through a webhook.
//
// A configuration names channels as "email:ops@example.com", "slack:#ops" or
// "webhook:https://example.com/hook". [Parse] reads such a name, [Open] makes
// a [Notifier] of several, and [All] joins notifiers of any kind.
//
// Delivery is at least once. A message whose receipt was not confirmed is sent
// again, so a channel may see it twice; it carries the same key both times.
// Nothing is queued: when Notify returns an error, the message has been tried
// for a while and given up.
//
// Passwords, webhook addresses (the address of a Slack webhook is a secret)
// and signing keys appear in no error and no log.
package notify

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
)

// Severity says how urgent a message is.
type Severity string

const (
	Info     Severity = "info"     // for the record; also: it is over
	Warning  Severity = "warning"  // needs attention in working hours
	Critical Severity = "critical" // needs attention now
)

// Message is what is told.
type Message struct {
	Title    string // one line; required
	Text     string // plain text, any number of lines
	Severity Severity
	Key      string  // the same for all messages about one matter; may be empty
	Fields   []Field // shown in this order
}

// Field is a named fact of a message.
type Field struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Validate returns every fault of the message.
func (m Message) Validate() error {
	var errs []error
	if strings.TrimSpace(m.Title) == "" {
		errs = append(errs, errors.New("message: no title"))
	}
	switch m.Severity {
	case Info, Warning, Critical:
	default:
		errs = append(errs, fmt.Errorf("message: severity %q is none of info, warning, critical", m.Severity))
	}
	return errors.Join(errs...)
}

// A Notifier sends messages somewhere. It is safe for concurrent use.
type Notifier interface {
	// Notify returns nil when the other side has taken the message. It
	// retries for as long as that makes sense, within ctx. The error says
	// where the message did not go, and holds no secret.
	Notify(ctx context.Context, m Message) error
}

// Secret returns a secret when it is needed, so that it can be rotated and is
// held no longer than it takes. dr.Secret's Resolve is one.
type Secret func(ctx context.Context) (string, error)

// SecretFile reads the first line of a file whenever the secret is needed.
func SecretFile(path string) Secret {
	return func(ctx context.Context) (string, error) {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		line, _, _ := strings.Cut(string(b), "\n")
		if line = strings.TrimSpace(line); line == "" {
			return "", fmt.Errorf("read secret %s: the first line is empty", path)
		}
		return line, nil
	}
}

// All returns a Notifier that tells every one of ns at the same time. Its
// error joins theirs; one that fails keeps no other from being told.
func All(ns ...Notifier) Notifier { return all(ns) }

type all []Notifier

func (a all) Notify(ctx context.Context, m Message) error {
	errs := make([]error, len(a))
	var wg sync.WaitGroup
	for i, n := range a {
		wg.Go(func() { errs[i] = n.Notify(ctx, m) })
	}
	wg.Wait()
	return errors.Join(errs...)
}
