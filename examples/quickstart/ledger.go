package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
)

// ledgerFile is the one file the service appends to. Any prefix of it is an
// earlier state of the ledger, so a backup may read it at any moment.
const ledgerFile = "ledger.jsonl"

// A record is one line of the ledger. Sum covers the record and the Sum
// before it: a checksum that is right proves all records up to it.
type record struct {
	N     int    `json:"n"`   // 1, 2, 3 ...
	Key   string `json:"key"` // the client's own name for it, so that it can ask twice
	Text  string `json:"text"`
	Site  string `json:"site"`  // that accepted it
	Epoch uint64 `json:"epoch"` // under which it was accepted
	At    int64  `json:"at"`    // machine clock when it was accepted
	Sum   string `json:"sum"`
}

func (r record) sum(prev string) string {
	h := sha256.New()
	fmt.Fprintf(h, "%s\n%d\n%s\n%s\n%s\n%d\n%d\n", prev, r.N, r.Key, r.Text, r.Site, r.Epoch, r.At)
	return hex.EncodeToString(h.Sum(nil))
}

// readLedger reads and checks a ledger. A last line that is not complete was
// never acknowledged and does not count; whole is the length without it.
func readLedger(dir string) (records []record, whole int64, err error) {
	f, err := os.Open(filepath.Join(dir, ledgerFile))
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	in := bufio.NewReader(f)
	prev := ""
	for {
		line, err := in.ReadBytes('\n')
		if err == io.EOF {
			return records, whole, nil
		}
		if err != nil {
			return nil, 0, err
		}
		var r record
		if err := json.Unmarshal(bytes.TrimSpace(line), &r); err != nil {
			return nil, 0, fmt.Errorf("%s: record %d: %w", f.Name(), len(records)+1, err)
		}
		if r.N != len(records)+1 || r.Sum != r.sum(prev) {
			return nil, 0, fmt.Errorf("%s: record %d: checksum does not match", f.Name(), len(records)+1)
		}
		records, prev = append(records, r), r.Sum
		whole += int64(len(line))
	}
}

// A ledger appends records to its file and holds them in memory.
type ledger struct {
	mu      sync.Mutex
	f       *os.File
	records []record
	byKey   map[string]int // index into records
}

// openLedger opens or creates the ledger of a directory, cutting off a last
// line that a crash left incomplete.
func openLedger(dir string) (*ledger, error) {
	path := filepath.Join(dir, ledgerFile)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	records, whole, err := readLedger(dir)
	if err == nil {
		err = f.Truncate(whole)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	l := &ledger{f: f, records: records, byKey: make(map[string]int, len(records))}
	for i, r := range records {
		l.byKey[r.Key] = i
	}
	return l, nil
}

// append makes a record durable and returns it with its number and sum. A
// key that is there already returns its record: a client that lost the reply
// asks again.
func (l *ledger) append(r record) (record, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i, ok := l.byKey[r.Key]; ok {
		return l.records[i], nil
	}
	prev := ""
	if n := len(l.records); n > 0 {
		prev = l.records[n-1].Sum
	}
	r.N = len(l.records) + 1
	r.Sum = r.sum(prev)
	line, err := json.Marshal(r)
	if err != nil {
		return record{}, err
	}
	if _, err := l.f.Write(append(line, '\n')); err != nil {
		return record{}, err
	}
	if err := l.f.Sync(); err != nil {
		return record{}, err
	}
	l.byKey[r.Key] = len(l.records)
	l.records = append(l.records, r)
	return r, nil
}

// last returns the newest record, the zero record if there is none.
func (l *ledger) last() record {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.records) == 0 {
		return record{}
	}
	return l.records[len(l.records)-1]
}

// from returns the records with numbers above n.
func (l *ledger) from(n int) []record {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]record(nil), l.records[min(n, len(l.records)):]...)
}
