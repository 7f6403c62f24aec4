package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// clientConfig is config/client.json.
type clientConfig struct {
	Run  string        `json:"run"`
	Name string        `json:"name"` // the DNS name of the service
	Pace time.Duration `json:"pace"` // pause between two requests
	Tree bool          `json:"tree,omitempty"`
}

// An ack is one line of client/acknowledged.jsonl: what the service promised
// to the client, by the client's own account.
type ack struct {
	record
	Asked int64     `json:"asked"` // machine clock before the request that was answered
	Acked int64     `json:"acked"` // machine clock at the answer
	Time  time.Time `json:"time"`
}

// httpClient gives up early: a site that does not answer within a second is
// asked again, wherever the name leads then.
var httpClient = &http.Client{Timeout: time.Second}

// A client follows the name of the service, all the time and at both sites.
type client struct {
	c     clientConfig
	dir   string
	names *resolver
	outed int64 // machine clock of the first failure in a row, 0 if none
}

// runClient is the process "world.client".
func runClient(ctx context.Context, f fleet, name string) error {
	var c clientConfig
	if err := readJSON(filepath.Join(f.dir, "config", name+".json"), &c); err != nil {
		return err
	}
	cl := &client{
		c: c, dir: filepath.Join(f.dir, "client"),
		names: &resolver{server: func() string { return f.addr(dnsProcess) }},
	}
	// Numbers go on where an earlier client of this directory stopped.
	var acks []ack
	if err := readLines(filepath.Join(cl.dir, "acknowledged.jsonl"), &acks); err != nil {
		return err
	}
	if err := f.announce(name, ""); err != nil {
		return err
	}
	for i := len(acks) + 1; ; {
		done, err := cl.once(ctx, fmt.Sprintf("order-%06d", i))
		if ctx.Err() != nil {
			return nil
		}
		if err := cl.account(err); err != nil {
			return err
		}
		if done {
			i++
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(c.Pace):
		}
	}
}

// once sends one request to wherever the name leads now. A record is repeated
// under the same key until it is acknowledged.
func (cl *client) once(ctx context.Context, key string) (bool, error) {
	addr, err := cl.names.lookup(ctx, cl.c.Name)
	if err != nil {
		return false, err
	}
	if cl.c.Tree {
		return true, cl.get(ctx, "http://"+addr+"/healthz", new(status))
	}
	a := ack{Asked: clock()}
	if a.record, err = cl.post(ctx, addr, key); err != nil {
		return false, err
	}
	a.Acked, a.Time = clock(), time.Now().UTC()
	return true, appendLine(filepath.Join(cl.dir, "acknowledged.jsonl"), a)
}

// postRecord sends one record to an address, whatever the name says.
func postRecord(ctx context.Context, run, addr, key string) (record, error) {
	return (&client{c: clientConfig{Run: run}}).post(ctx, addr, key)
}

func (cl *client) post(ctx context.Context, addr, key string) (r record, err error) {
	body, err := json.Marshal(record{Key: key, Text: "42 units, paid, " + key})
	if err != nil {
		return r, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+"/records", bytes.NewReader(body))
	if err != nil {
		return r, err
	}
	err = cl.do(req, http.StatusCreated, &r)
	return r, err
}

func (cl *client) get(ctx context.Context, url string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	return cl.do(req, http.StatusOK, into)
}

func (cl *client) do(req *http.Request, want int, into any) error {
	req.Header.Set(runHeader, cl.c.Run)
	resp, err := httpClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode != want {
		json.Unmarshal(b, into) // /healthz explains itself in its own form
		return &statusError{code: resp.StatusCode, text: strings.TrimSpace(string(b))}
	}
	return json.Unmarshal(b, into)
}

// statusError is an answer that is not the one wanted.
type statusError struct {
	code int
	text string
}

func (e *statusError) Error() string { return fmt.Sprintf("%d: %s", e.code, e.text) }

// An outage is one line of client/outages.jsonl: from the first request that
// failed to the first that succeeded again.
type outage struct {
	From  int64 `json:"from"`
	Until int64 `json:"until"`
}

// account keeps the list of outages.
func (cl *client) account(err error) error {
	switch {
	case err != nil && cl.outed == 0:
		cl.outed = clock()
	case err == nil && cl.outed != 0:
		o := outage{From: cl.outed, Until: clock()}
		cl.outed = 0
		return appendLine(filepath.Join(cl.dir, "outages.jsonl"), o)
	}
	return nil
}

// A resolver finds the address behind a service name, and keeps an answer for
// as long as its TTL allows, as resolvers of clients do.
//
// The name is an alias (CNAME) of the host of the site in charge. Failover moves
// the alias. Ports differ here, so a TXT record beside each host tells its own.
type resolver struct {
	server func() string
	addr   string
	expire time.Time
}

func (r *resolver) lookup(ctx context.Context, name string) (string, error) {
	if time.Now().Before(r.expire) {
		return r.addr, nil
	}
	asked := time.Now()
	alias, ttl, err := ask[*dns.CNAME](ctx, r.server(), name, dns.TypeCNAME)
	if err != nil {
		return "", err
	}
	addr, ttl2, err := lookupHost(ctx, r.server(), alias.Target)
	if err != nil {
		return "", err
	}
	r.addr, r.expire = addr, asked.Add(min(ttl, ttl2))
	return r.addr, nil
}

// lookupHost finds where the service of one site listens.
func lookupHost(ctx context.Context, server, host string) (string, time.Duration, error) {
	a, ttl, err := ask[*dns.A](ctx, server, host, dns.TypeA)
	if err != nil {
		return "", 0, err
	}
	txt, ttl2, err := ask[*dns.TXT](ctx, server, portPrefix+host, dns.TypeTXT)
	if err != nil {
		return "", 0, err
	}
	port, ok := strings.CutPrefix(strings.Join(txt.Txt, ""), "port=")
	if !ok {
		return "", 0, fmt.Errorf("look up %s: no port in %q", host, txt.Txt)
	}
	return net.JoinHostPort(a.A.String(), port), min(ttl, ttl2), nil
}

// ask returns the first record of a type and its TTL.
func ask[R dns.RR](ctx context.Context, server, name string, typ uint16) (rr R, ttl time.Duration, err error) {
	q := new(dns.Msg).SetQuestion(dns.Fqdn(name), typ)
	c := dns.Client{Timeout: time.Second}
	in, _, err := c.ExchangeContext(ctx, q, server)
	if err != nil {
		return rr, 0, fmt.Errorf("look up %s: %w", name, err)
	}
	if in.Rcode != dns.RcodeSuccess || !in.Authoritative {
		return rr, 0, fmt.Errorf("look up %s: %s", name, dns.RcodeToString[in.Rcode])
	}
	for _, a := range in.Answer {
		if rr, ok := a.(R); ok {
			return rr, time.Duration(a.Header().Ttl) * time.Second, nil
		}
	}
	return rr, 0, fmt.Errorf("look up %s %s: %w", name, dns.TypeToString[typ], errNoRecord)
}

var errNoRecord = errors.New("no such record")
