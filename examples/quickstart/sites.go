package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"time"

	"filippo.io/age"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/httpstore"
	"github.com/holdfast-go/holdfast/provider/local"
)

// serveStore is the process SITE.store: a directory as a BlobStore, served to
// the other processes over HTTP. In a cloud this is a bucket.
func serveStore(ctx context.Context, f fleet, name string) error {
	l := layout(f)
	site, _, _ := strings.Cut(name, ".")
	store, err := local.NewBlobStore(local.Config{Dir: l.store(site), Create: true})
	if err != nil {
		return err
	}
	defer store.Close()
	token, err := l.readSecret(name)
	if err != nil {
		return err
	}
	h, err := httpstore.NewHandler(store, httpstore.HandlerConfig{Token: token, TempDir: l.inSite(site, ""), Logger: stderrLog()})
	if err != nil {
		return err
	}
	ln, err := f.listen(name)
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second}
	if err := f.announce(name, ln.Addr().String()); err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { srv.Close() })
	return srv.Serve(ln)
}

// serveDNS is the process local-w.dns: an authoritative server for the zone,
// which takes signed updates. In a cloud this is Route 53 or the like.
func serveDNS(ctx context.Context, f fleet, name string) error {
	l := layout(f)
	secret, err := l.readSecret(tsigKey)
	if err != nil {
		return err
	}
	c := local.DNSServerConfig{
		Zone: zone, Dir: l.inSite(witnessSite, "zone"), Addr: f.addr(name),
		Keys: []local.DNSKey{{Name: tsigKey + ".", Secret: secret}}, Logger: stderrLog(),
	}
	s, err := local.NewDNSServer(c)
	if err != nil && c.Addr != "" {
		c.Addr = "" // the port it had before is taken
		s, err = local.NewDNSServer(c)
	}
	if err != nil {
		return err
	}
	if err := f.announce(name, s.Addr()); err != nil {
		return err
	}
	return s.Serve(ctx)
}

func stderrLog() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

const (
	tsigKey     = "holdfast" // signs changes of the zone
	identityKey = "identity" // opens the repository; its home is the standby
)

// openStore returns the store of a site, wherever its process listens now.
func (l layout) openStore(site string) (*httpstore.Store, error) {
	addr := fleet(l).addr(storeProcess(site))
	if addr == "" {
		return nil, fmt.Errorf("store of %s: it never ran", site)
	}
	token, err := l.readSecret(storeProcess(site))
	if err != nil {
		return nil, err
	}
	return httpstore.New(httpstore.Config{URL: "http://" + addr, Token: token})
}

// openDNS returns the zone as the orchestrator edits it.
func (l layout) openDNS() (*local.DNS, error) {
	secret, err := l.readSecret(tsigKey)
	if err != nil {
		return nil, err
	}
	return local.NewDNS(local.DNSConfig{
		Server: fleet(l).addr(dnsProcess), Zone: zone, KeyName: tsigKey + ".", Secret: secret, Timeout: 2 * time.Second,
	})
}

// openBackups returns the part of a site's store that holds the repository.
func (l layout) openBackups(site string) (provider.BlobStore, error) {
	s, err := l.openStore(site)
	if err != nil {
		return nil, err
	}
	return provider.Sub(s, "repository/"), nil // where the Planner keeps it
}

func (l layout) identity() (*age.X25519Identity, error) {
	s, err := l.readSecret(identityKey)
	if err != nil {
		return nil, err
	}
	return age.ParseX25519Identity(s)
}

// makeSecrets makes the secrets that are not there yet. They are handed from
// process to process in files that only their owner can read, never as
// arguments or in the environment.
func (l layout) makeSecrets() error {
	random := func() (string, error) {
		b := make([]byte, 32)
		rand.Read(b)
		return base64.StdEncoding.EncodeToString(b), nil
	}
	identity := func() (string, error) {
		id, err := age.GenerateX25519Identity()
		if err != nil {
			return "", err
		}
		return id.String(), nil
	}
	for name, generate := range map[string]func() (string, error){
		storeProcess(primarySite): random, storeProcess(standbySite): random, storeProcess(witnessSite): random,
		tsigKey: random, identityKey: identity,
	} {
		if _, err := os.Stat(l.secret(name)); !errors.Is(err, fs.ErrNotExist) {
			if err != nil {
				return err
			}
			continue
		}
		s, err := generate()
		if err == nil {
			err = writeFile(l.secret(name), []byte(s+"\n"))
		}
		if err != nil {
			return fmt.Errorf("make secret %s: %w", name, err)
		}
	}
	return nil
}

func (l layout) readSecret(name string) (string, error) {
	b, err := os.ReadFile(l.secret(name))
	return strings.TrimSpace(string(b)), err
}

// registerHost makes the zone say where the service of a site listens.
func registerHost(ctx context.Context, dns provider.DNSProvider, site, addr string) error {
	host, port, ok := strings.Cut(addr, ":")
	if !ok {
		return fmt.Errorf("register %s: no port in %q", site, addr)
	}
	for _, want := range []provider.RecordSet{
		{Name: hostOf(site), Type: "A", TTL: time.Second, Values: []string{host}},
		{Name: portPrefix + hostOf(site), Type: "TXT", TTL: time.Second, Values: []string{"port=" + port}},
	} {
		if err := setRecords(ctx, dns, want); err != nil {
			return fmt.Errorf("register %s: %w", site, err)
		}
	}
	return nil
}

// setRecords makes the zone hold exactly want under its name and type.
func setRecords(ctx context.Context, dns provider.DNSProvider, want provider.RecordSet) error {
	change := provider.Change{New: &want}
	switch have, err := dns.Get(ctx, want.Name, want.Type); {
	case err == nil && have.TTL == want.TTL && strings.Join(have.Values, "\n") == strings.Join(want.Values, "\n"):
		return nil
	case err == nil:
		change.Old = &have
	case !errors.Is(err, provider.ErrNotFound):
		return err
	}
	_, err := dns.Swap(ctx, change)
	return err
}
