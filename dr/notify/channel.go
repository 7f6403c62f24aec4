package notify

import (
	"errors"
	"fmt"
	"net"
	"net/mail"
	"net/url"
	"regexp"
	"strings"
)

// Kind is the part of a channel's name before the colon.
type Kind string

const (
	KindEmail   Kind = "email"
	KindSlack   Kind = "slack"
	KindWebhook Kind = "webhook"
)

// Channel is where messages go.
type Channel struct {
	Kind   Kind
	Target string // an address, a Slack channel with its "#", or a URL
}

var slackName = regexp.MustCompile(`^#[\p{Ll}\p{Lo}\p{N}_-]{1,80}$`)

// Parse reads the name of a channel:
//
//	email:ops@example.com
//	slack:#ops
//	webhook:https://example.com/hook
//
// A webhook is reached by https; http is accepted for an address of the own
// host only, for what it carries could be read and changed on the way.
func Parse(name string) (Channel, error) {
	kind, target, found := strings.Cut(name, ":")
	if !found {
		return Channel{}, errors.New("channel: want kind:target, such as email:ops@example.com, slack:#ops or webhook:https://example.com/hook")
	}
	ch := Channel{Kind: Kind(kind), Target: target}
	var err error
	switch ch.Kind {
	case KindEmail:
		err = checkAddress(target)
	case KindSlack:
		if !slackName.MatchString(target) {
			err = errors.New("want # and a channel name in lower case, such as slack:#ops; the address of the webhook belongs among the secrets")
		}
	case KindWebhook:
		err = checkURL(target)
	default:
		return Channel{}, fmt.Errorf("channel: kind %q is none of email, slack, webhook", kind)
	}
	if err != nil {
		return Channel{}, fmt.Errorf("channel %s: %w", kind, err)
	}
	return ch, nil
}

// String writes the channel for people: the path and query of a webhook, which
// often hold a token, are left out.
func (c Channel) String() string {
	if c.Kind != KindWebhook {
		return string(c.Kind) + ":" + c.Target
	}
	u, err := url.Parse(c.Target)
	if err != nil {
		return string(c.Kind) + ":..."
	}
	return string(c.Kind) + ":" + u.Scheme + "://" + u.Host + "/..."
}

// GoString keeps %#v from printing what String leaves out.
func (c Channel) GoString() string { return fmt.Sprintf("notify.Channel(%q)", c.String()) }

func checkAddress(s string) error {
	a, err := mail.ParseAddress(s)
	switch {
	case err != nil:
		return fmt.Errorf("address %q: %w", s, err)
	case a.Address != s:
		return fmt.Errorf("address %q: want the bare address %s", s, a.Address)
	}
	return nil
}

// checkURL never repeats the URL, which may hold a token.
func checkURL(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return errors.New("not a URL")
	case u.User != nil:
		return errors.New("holds a user name or password; sign with a key instead")
	case u.Host == "" || u.Hostname() == "":
		return errors.New("no host; want https://host/path")
	case u.Scheme == "https":
		return nil
	case u.Scheme == "http" && ownHost(u.Hostname()):
		return nil
	case u.Scheme == "http":
		return fmt.Errorf("http to %s would be readable on the way; use https", u.Hostname())
	}
	return fmt.Errorf("scheme %q is not https", u.Scheme)
}

func ownHost(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
