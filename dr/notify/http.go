package notify

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// poster sends JSON to an address that nobody may learn from its errors.
type poster struct{ client http.Client }

func newPoster(c *http.Client) poster {
	var p poster
	if c != nil {
		p.client = *c
	}
	p.client.Timeout = cmp.Or(p.client.Timeout, 10*time.Second)
	// A redirect would carry the message, and its signature, to a host that
	// nobody has configured.
	p.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return p
}

// post returns nil once the other side has answered with success.
func (p poster) post(ctx context.Context, address string, body []byte, header http.Header) error {
	return retry(ctx, func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
		if err != nil {
			return errors.New("its address is not a URL") // err would repeat it
		}
		req.Header = header.Clone()
		req.Header.Set("Content-Type", "application/json")
		resp, err := p.client.Do(req)
		if err != nil {
			return unreachable(ctx, err)
		}
		defer resp.Body.Close()
		return judge(resp)
	})
}

// unreachable takes the address out of what net/http says.
func unreachable(ctx context.Context, err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	if ctx.Err() != nil {
		return err
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return err
	}
	return &passing{error: err}
}

// judge reads the answer. Of its text only a word such as Slack's
// "no_service" is repeated: a longer one may hold the address.
func judge(resp *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 4096)) // only to say more; the status decides
	if resp.StatusCode/100 == 2 {
		return nil
	}
	err := fmt.Errorf("answered %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	if word := strings.TrimSpace(string(text)); isWord(word) {
		err = fmt.Errorf("%w (%s)", err, word)
	}
	switch {
	case resp.StatusCode/100 == 3:
		return fmt.Errorf("%w; redirects are not followed", err)
	case resp.StatusCode == http.StatusTooManyRequests, resp.StatusCode == http.StatusRequestTimeout, resp.StatusCode/100 == 5:
		return &passing{err, retryAfter(resp.Header.Get("Retry-After"), time.Now())}
	}
	return err
}

func isWord(s string) bool {
	return s != "" && len(s) <= 40 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz_") == ""
}

// retryAfter reads the header of RFC 9110, section 10.2.3: seconds or a date.
func retryAfter(s string, now time.Time) time.Duration {
	if n, err := strconv.ParseUint(s, 10, 31); err == nil {
		return time.Duration(n) * time.Second
	}
	if t, err := http.ParseTime(s); err == nil {
		return max(0, t.Sub(now))
	}
	return 0
}
