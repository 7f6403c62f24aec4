package aws_test

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"testing"

	"github.com/holdfast-go/holdfast/backup"
)

// A forger makes objects by backup/FORMAT.md from the text of a stolen
// credential, and keeps to none of the rules that the library keeps to.
type forger struct {
	Format []byte `json:"format"`
	Writer []byte `json:"writer"`
	Seed   []byte `json:"seed"`
	Cert   struct {
		Body []byte `json:"body"`
		Sig  []byte `json:"sig"`
	} `json:"cert"`

	name  string
	index []byte
}

func newForger(t testing.TB, c backup.Credential) *forger {
	t.Helper()
	f := &forger{}
	var cert struct{ Name string }
	if err := json.Unmarshal(c.Text(), f); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(f.Cert.Body, &cert); err != nil {
		t.Fatal(err)
	}
	f.name, f.index = cert.Name, hkdfOf(f.Writer, nil, "index")
	return f
}

func hkdfOf(secret, salt []byte, info string) []byte {
	k, err := hkdf.Key(sha256.New, secret, salt, "holdfast v1 "+info, 32)
	if err != nil {
		panic(err)
	}
	return k
}

func gcm(key []byte) cipher.AEAD {
	b, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	a, err := cipher.NewGCMWithRandomNonce(b)
	if err != nil {
		panic(err)
	}
	return a
}

// A forgedHead is the header of an object, and what sections of it need.
type forgedHead struct {
	kind string
	salt []byte
	b    []byte
}

func (f *forger) head(kind, session string, enc []byte) forgedHead {
	h := forgedHead{kind: kind, salt: make([]byte, 32)}
	rand.Read(h.salt)
	fields := map[string]any{"v": 1, "kind": kind, "salt": h.salt, "writer": f.name, "format": f.Format, "cert": f.Cert}
	if session != "" {
		fields["session"] = session
	}
	if enc != nil {
		fields["enc"] = enc
	}
	j, err := json.Marshal(fields)
	if err != nil {
		panic(err)
	}
	h.b = append(binary.BigEndian.AppendUint32([]byte("holdfast"), uint32(len(j))), j...)
	return h
}

// seal returns a section.
func (h forgedHead) seal(secret []byte, name, key string, plain []byte) []byte {
	sum := sha256.Sum256(h.b)
	return gcm(hkdfOf(secret, h.salt, h.kind+" "+name)).Seal(nil, nil, plain, append(sum[:], name+"\x00"+key...))
}

func (f *forger) open(head []byte, kind, name, key string, sealed []byte) ([]byte, error) {
	var h struct{ Salt []byte }
	if err := json.Unmarshal(head[12:], &h); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(head)
	return gcm(hkdfOf(f.index, h.Salt, kind+" "+name)).Open(nil, nil, sealed, append(sum[:], name+"\x00"+key...))
}

func (f *forger) sign(kind, key string, b []byte) []byte {
	sum := sha256.Sum256(b)
	text := append([]byte("holdfast v1 sig\n"+kind+"\n"+key+"\n"), sum[:]...)
	return append(b, ed25519.Sign(ed25519.NewKeyFromSeed(f.Seed), text)...)
}

// object is one of those with one section, validly sealed and signed.
func (f *forger) object(kind, key string, plain []byte) []byte {
	h := f.head(kind, "", nil)
	return f.sign(kind, key, append(h.b, h.seal(f.index, kind, key, plain)...))
}

// A forgedChunk is one line of a directory, a forgedPack the record of a pack.
type forgedChunk struct {
	id          [32]byte
	off         uint64
	long, plain uint64
}

type forgedPack struct {
	sum     [32]byte
	kind    byte
	size    uint64
	salt    []byte
	session string
	enc     []byte
	chunks  []forgedChunk
}

func withLength(b, field []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(field))), field...)
}

func directory(b []byte, chunks []forgedChunk) []byte {
	b = binary.AppendUvarint(b, uint64(len(chunks)))
	for _, c := range chunks {
		b = append(b, c.id[:]...)
		b = binary.AppendUvarint(binary.AppendUvarint(binary.AppendUvarint(b, c.off), c.long), c.plain)
	}
	return b
}

// indexOf is an index of packs, and its key.
func (f *forger) indexOf(session string, packs ...forgedPack) (key string, b []byte) {
	plain := binary.AppendUvarint(nil, uint64(len(packs)))
	for _, p := range packs {
		plain = withLength(withLength(plain, []byte(p.session)), p.enc)
	}
	plain = binary.AppendUvarint(plain, uint64(len(packs)))
	for i, p := range packs {
		plain = append(append(plain, p.sum[:]...), p.kind)
		plain = append(binary.AppendUvarint(plain, p.size), p.salt...)
		plain = binary.AppendUvarint(plain, uint64(i))
		plain = directory(withLength(plain, nil), p.chunks)
	}
	h := f.head("index", session, nil)
	b = f.sign("index", "", append(h.b, h.seal(f.index, "index", "", plain)...))
	sum := sha256.Sum256(b)
	return "index/" + hex.EncodeToString(sum[:]), b
}

// pack is one whose directory names true chunks, and whose frames are noise.
func (f *forger) pack(kind, session string, enc []byte, chunks []forgedChunk) (key string, b []byte, p forgedPack) {
	h := f.head(kind, session, enc)
	b = append([]byte(nil), h.b...)
	p = forgedPack{kind: kind[0], salt: h.salt, session: session, enc: enc}
	for _, c := range chunks {
		c.off = uint64(len(b))
		frame := make([]byte, c.long)
		rand.Read(frame)
		b = append(b, frame...)
		p.chunks = append(p.chunks, c)
	}
	section := h.seal(f.index, "directory", "", directory(nil, p.chunks))
	b = binary.BigEndian.AppendUint32(append(b, section...), uint32(len(section)))
	p.sum, p.size = sha256.Sum256(b), uint64(len(b))
	sum := hex.EncodeToString(p.sum[:])
	return kind + "/" + sum[:2] + "/" + sum, b, p
}

// packsOf reads what a true pack says of itself; the index key is enough.
// That takes a copy of the pack, which an attacker with the credential of a
// writer does not get from the store: what he could learn is assumed.
func (f *forger) packOf(t testing.TB, kind string, b []byte) forgedPack {
	t.Helper()
	head := b[:12+binary.BigEndian.Uint32(b[8:12])]
	n := int(binary.BigEndian.Uint32(b[len(b)-4:]))
	plain, err := f.open(head, kind, "directory", "", b[len(b)-4-n:len(b)-4])
	if err != nil {
		t.Fatal(err)
	}
	var h struct {
		Salt, Enc []byte
		Session   string
	}
	if err := json.Unmarshal(head[12:], &h); err != nil {
		t.Fatal(err)
	}
	p := forgedPack{sum: sha256.Sum256(b), kind: kind[0], size: uint64(len(b)), salt: h.Salt, session: h.Session, enc: h.Enc}
	uvarint := func() uint64 {
		v, n := binary.Uvarint(plain)
		if n <= 0 {
			t.Fatal("directory ends early")
		}
		plain = plain[n:]
		return v
	}
	for left := uvarint(); left > 0; left-- {
		var c forgedChunk
		copy(c.id[:], plain)
		plain = plain[32:]
		c.off, c.long, c.plain = uvarint(), uvarint(), uvarint()
		p.chunks = append(p.chunks, c)
	}
	return p
}
