package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/holdfast-go/holdfast/provider"
)

// setUpSites starts what both stories need.
func (st *story) setUpSites(ctx context.Context) error {
	if err := st.makeSecrets(); err != nil {
		return err
	}
	for _, name := range []string{storeProcess(primarySite), storeProcess(standbySite), storeProcess(witnessSite), dnsProcess, pagerProcess} {
		if err := st.startAndSay(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// setUp is stage 1: processes, data, a name, and somebody who uses them.
func (st *story) setUp(ctx context.Context) error {
	if err := st.setUpSites(ctx); err != nil {
		return err
	}
	data := st.log.Settings.Data
	if data == "" {
		data = st.data(primarySite)
		n, err := makeArchive(data, st.log.Settings.Archive)
		if err != nil {
			return err
		}
		if err := st.log.remember(func(f *facts) { f.Archived = n }); err != nil {
			return err
		}
	}
	site, err := st.site(primarySite)
	if err != nil {
		return err
	}
	dns, err := st.openDNS()
	if err != nil {
		return err
	}
	if _, err := (promotion{site, data, st.register}).Promote(ctx, 0); err != nil {
		return err
	}
	// Names are made once; from now on only failover changes the alias.
	alias := provider.RecordSet{Name: serviceName, Type: "CNAME", TTL: time.Second, Values: []string{hostOf(primarySite)}}
	if err := setRecords(ctx, dns, alias); err != nil {
		return fmt.Errorf("set %s: %w", serviceName, err)
	}
	in, _ := st.fleet.find(serviceProcess(primarySite))
	st.ok("%-16s pid %-7d http://%s, in charge as long as no failover says otherwise", in.Name, in.PID, in.Addr)
	if data != st.data(primarySite) {
		st.ok("it serves %s, which is only read", data)
	} else {
		st.ok("it has %s of old data and takes new records, each made durable before it is acknowledged", size(st.log.Facts.Archived))
	}
	c := clientConfig{Run: st.log.Run, Name: serviceName, Pace: st.log.Settings.Pace, Tree: st.tree()}
	if err := writeJSON(st.config(clientProcess), c); err != nil {
		return err
	}
	if err := st.startAndSay(ctx, clientProcess); err != nil {
		return err
	}
	if st.tree() {
		return nil
	}
	n, err := st.acknowledged(ctx, 3)
	st.ok("a client writes to %s and keeps its own account: %d records acknowledged", strings.TrimSuffix(serviceName, "."), n)
	return err
}

func (st *story) startAndSay(ctx context.Context, name string) error {
	in, err := st.fleet.start(ctx, name)
	if err != nil {
		return err
	}
	where := ""
	if in.Addr != "" {
		where = in.Addr
	}
	st.ok("%-16s pid %-7d %s", in.Name, in.PID, where)
	return nil
}

// acknowledged waits until the client counts at least n records.
func (st *story) acknowledged(ctx context.Context, n int) (int, error) {
	for {
		acks, err := st.acks()
		if err != nil || len(acks) >= n {
			return len(acks), err
		}
		select {
		case <-ctx.Done():
			return len(acks), ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (st *story) acks() (acks []ack, err error) {
	return acks, readLines(filepath.Join(st.dir, "client", "acknowledged.jsonl"), &acks)
}

// makeArchive writes the old data of the ledger service: half of it text that
// compresses, half of it noise that does not. It is the same whenever it is
// made again.
func makeArchive(dir string, total int64) (int64, error) {
	const file = 512 << 10
	noise := rand.NewChaCha8([32]byte([]byte("the old data of the quickstart..")))
	var written int64
	for i := 0; written < total; i++ {
		n := int(min(file, total-written))
		b := make([]byte, n)
		if i%2 == 0 {
			noise.Read(b)
		} else {
			var rows bytes.Buffer
			for row := 0; rows.Len() < n; row++ {
				fmt.Fprintf(&rows, "%d;%d;order %d of %d;%08x\n", i, row, row, i, noise.Uint64()>>32)
			}
			b = rows.Bytes()[:n]
		}
		path := filepath.Join(dir, "archive", fmt.Sprintf("%04d", 2000+i/12), fmt.Sprintf("%02d.csv", i%12+1))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return written, err
		}
		if err := os.WriteFile(path, b, 0o644); err != nil {
			return written, err
		}
		written += int64(len(b))
	}
	return written, nil
}
