package backup

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestVectors: the numbers in FORMAT.md are what this package computes.
func TestVectors(t *testing.T) {
	root := make([]byte, 32)
	for i := range root {
		root[i] = byte(i)
	}
	mac := func(key []byte, s string) []byte {
		m := hmac.New(sha256.New, key)
		m.Write([]byte(s))
		return m.Sum(nil)
	}
	k, err := keysFromRoot(root)
	if err != nil {
		t.Fatal(err)
	}
	a := authorityFromRoot(root, 1)
	sum := func(b []byte) []byte { s := sha256.Sum256(b); return s[:] }
	var want strings.Builder
	for _, v := range []struct {
		name string
		b    []byte
	}{
		{"writer", derive(root, nil, "writer")},
		{"data id of \"holdfast\"", mac(k.dataID, "holdfast")},
		{"meta id of \"holdfast\"", mac(k.metaID, "holdfast")},
		{"cut", k.cut},
		{"index", k.index},
		{"log of the name \"wal\"", mac(derive(derive(root, nil, "writer"), nil, "log name"), "wal")[:16]},
		{"public key, SHA-256", sum(k.private.PublicKey().Bytes())},
		{"authority, public", a.authority.Public().(ed25519.PublicKey)},
	} {
		fmt.Fprintf(&want, "    %-24s %s\n", v.name, hex.EncodeToString(v.b))
	}
	text, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), want.String()) {
		t.Errorf("FORMAT.md lacks these lines:\n%s", want.String())
	}
}
