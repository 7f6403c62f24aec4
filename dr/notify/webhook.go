package notify

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// SignatureHeader is the HTTP header of a webhook that holds its signature.
const SignatureHeader = "Holdfast-Signature"

// SignatureAge is how far the time of a signature may be from the present for
// [CheckSignature] to accept it.
const SignatureAge = 5 * time.Minute

// Sign returns the value of [SignatureHeader] for a body: "t=<Unix
// seconds>,v1=<hex>", where the hex is the HMAC-SHA-256, by key, of the same
// seconds in decimal, a full stop, and the body.
func Sign(key string, body []byte, at time.Time) string {
	seconds := strconv.FormatInt(at.Unix(), 10)
	return "t=" + seconds + ",v1=" + hex.EncodeToString(mac(key, seconds, body))
}

// CheckSignature is what a receiver does with the header of a request before
// it believes the body. It refuses signatures that are not of these few
// minutes, so that an old message cannot be sent again; within them, the
// header Idempotency-Key tells a repeated delivery.
func CheckSignature(key, header string, body []byte, now time.Time) error {
	t, v1, found := strings.Cut(header, ",v1=")
	seconds, isTime := strings.CutPrefix(t, "t=")
	at, err := strconv.ParseInt(seconds, 10, 64)
	sum, hexErr := hex.DecodeString(v1)
	if !found || !isTime || err != nil || hexErr != nil {
		return fmt.Errorf("%s: want t=...,v1=... in it", SignatureHeader)
	}
	if !hmac.Equal(sum, mac(key, seconds, body)) {
		return fmt.Errorf("%s: not by this key, or not of this body", SignatureHeader)
	}
	if age := now.Sub(time.Unix(at, 0)).Abs(); age > SignatureAge {
		return fmt.Errorf("%s: %v away from the present", SignatureHeader, age)
	}
	return nil
}

func mac(key, seconds string, body []byte) []byte {
	h := hmac.New(sha256.New, []byte(key))
	h.Write([]byte(seconds + "."))
	h.Write(body)
	return h.Sum(nil)
}

// webhook posts the message as JSON.
type webhook struct {
	poster
	channel Channel
	key     Secret // may be nil
}

// payload is the JSON that a webhook receives.
type payload struct {
	Title    string   `json:"title"`
	Text     string   `json:"text,omitempty"`
	Severity Severity `json:"severity"`
	Key      string   `json:"key,omitempty"`
	Fields   []Field  `json:"fields,omitempty"`
}

func (w webhook) Notify(ctx context.Context, m Message) error {
	if err := w.send(ctx, m); err != nil {
		return fmt.Errorf("notify %s: %w", w.channel, err)
	}
	return nil
}

func (w webhook) send(ctx context.Context, m Message) error {
	if err := m.Validate(); err != nil {
		return err
	}
	body, err := json.Marshal(payload(m))
	if err != nil {
		return err
	}
	header := http.Header{"Idempotency-Key": {rand.Text()}}
	if w.key != nil {
		key, err := w.key(ctx)
		if err != nil {
			return fmt.Errorf("signing key: %w", err)
		}
		if key == "" {
			return errors.New("signing key: empty")
		}
		header.Set(SignatureHeader, Sign(key, body, time.Now()))
	}
	return w.post(ctx, w.channel.Target, body, header)
}
