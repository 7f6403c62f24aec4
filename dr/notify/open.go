package notify

import (
	"errors"
	"fmt"
	"net/http"
)

// Config holds what channels need besides their names. What no channel needs
// may stay zero.
type Config struct {
	Mail SMTP // for email channels

	// Slack returns the address of the incoming webhook of a Slack channel,
	// "#ops" and so on. Slack gives a webhook one channel when it is created.
	Slack map[string]Secret

	// Key, if set, signs what is sent to webhooks; see [Sign].
	Key Secret

	// Client sends to Slack and webhooks. nil means one that follows no
	// redirects and waits at most 10 seconds for each attempt. A client given
	// here is copied; redirects are not followed in any case.
	Client *http.Client
}

// Open returns a Notifier for the channels, which [Parse] has read. All faults
// are reported at once, each with its channel.
func Open(c Config, channels ...Channel) (Notifier, error) {
	var ns []Notifier
	var errs []error
	for _, ch := range channels {
		n, err := open(c, ch)
		if err != nil {
			errs = append(errs, fmt.Errorf("channel %s: %w", ch, err))
			continue
		}
		ns = append(ns, n)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return All(ns...), nil
}

func open(c Config, ch Channel) (Notifier, error) {
	switch ch.Kind {
	case KindEmail:
		if err := errors.Join(checkAddress(ch.Target), c.Mail.Validate()); err != nil {
			return nil, err
		}
		return email{c.Mail, ch}, nil
	case KindSlack:
		return openSlack(c, ch)
	case KindWebhook:
		if err := checkURL(ch.Target); err != nil {
			return nil, err
		}
		return webhook{newPoster(c.Client), ch, c.Key}, nil
	}
	return nil, fmt.Errorf("kind %q is none of email, slack, webhook", ch.Kind)
}
