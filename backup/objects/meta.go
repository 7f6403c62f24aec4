package objects

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/provider"
)

// A meta is the description of an item.
type meta struct {
	Sum      string            `json:"s"` // SHA-256 of the content in hexadecimal; first, see setSum
	Version  provider.Version  `json:"v,omitempty"`
	Modified time.Time         `json:"t"` // as the listing told it, for it is compared with listings
	Meta     map[string]string `json:"m,omitempty"`
	Tags     map[string]string `json:"g,omitzero"` // nil if they are not known
	Lock     provider.LockMode `json:"l,omitempty"`
	Until    *time.Time        `json:"u,omitempty"`
	Deleted  bool              `json:"d,omitempty"` // the object was deleted at this moment
}

const sumStart, sumLen = len(`{"s":"`), 64

// describe makes the description of an object, with the content's sum still to
// be set.
func describe(info provider.Info, t tags, modified time.Time) json.RawMessage {
	m := meta{Sum: strings.Repeat("0", sumLen), Version: info.Version, Modified: modified.UTC(), Meta: info.Meta, Tags: t.all, Lock: info.Retain.Mode}
	if u := info.Retain.Until.UTC(); !u.IsZero() {
		m.Until = &u
	}
	return m.encode()
}

// gone describes a deletion; without a moment, what was not there.
func gone(at time.Time) json.RawMessage {
	return meta{Sum: strings.Repeat("0", sumLen), Modified: at.UTC(), Deleted: true}.encode()
}

func (m meta) encode() json.RawMessage {
	b, err := json.Marshal(m)
	if err != nil {
		panic(err) // it holds nothing that cannot be encoded
	}
	return b
}

// setSum puts the sum into a description, when the content has been read.
func setSum(b json.RawMessage, sum [32]byte) { hex.Encode(b[sumStart:sumStart+sumLen], sum[:]) }

func (m meta) sum() (sum [32]byte) {
	hex.Decode(sum[:], []byte(m.Sum))
	return sum
}

// decodeMeta refuses what describe never makes: such a point was tampered
// with, and nothing of it deserves to be trusted.
func decodeMeta(it backup.Item) (meta, error) {
	var m meta
	err := json.Unmarshal(it.Meta, &m)
	if err == nil && (len(m.Sum) != sumLen || !isHex(m.Sum)) {
		err = errors.New("no SHA-256")
	}
	if err == nil && m.Deleted && it.Size != 0 {
		err = errors.New("a deletion with content")
	}
	if err != nil {
		return meta{}, fmt.Errorf("item %.200q: its description was not made by this package: %w: %v", it.Path, backup.ErrDamaged, err)
	}
	return m, nil
}

func isHex(s string) bool {
	_, err := hex.DecodeString(s)
	return err == nil
}

// validKey: item paths are made for keys of the contract, all of which are
// UTF-8. Prefix and key together may be longer than each.
func validKey(key string) bool { return utf8.ValidString(key) && len(key) <= 2048 }

// keepable returns what of an object's Meta any store can keep, by the
// contract of [provider.PutOptions], and the names of the rest: an object that
// another program wrote may have more.
func keepable(all map[string]string) (kept map[string]string, dropped []string) {
	total := 0
	for _, k := range slices.Sorted(maps.Keys(all)) {
		v := all[k]
		switch {
		case k == "", strings.Trim(k, "abcdefghijklmnopqrstuvwxyz0123456789-") != "", strings.TrimSpace(v) != v,
			strings.ContainsFunc(v, func(r rune) bool { return r < ' ' || r > '~' }),
			len(kept) == 32, total+len(k)+len(v) > 1024:
			dropped = append(dropped, k)
			continue
		}
		if kept == nil {
			kept = map[string]string{}
		}
		kept[k] = v
		total += len(k) + len(v)
	}
	return kept, dropped
}
