package postgres

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"hash/crc32"
	"io"

	"github.com/holdfast-go/holdfast/backup"
)

// A digest is the checksum of a file as manifests have it, in bytes: SHA-256,
// or CRC-32C in the order of a little-endian machine. The length says which.
type digest string

// The algorithms of [Config].ManifestChecksums, by their names in manifests.
const (
	sumSHA256 = "SHA256"
	sumCRC32C = "CRC32C"
)

func (d digest) String() string { return hex.EncodeToString([]byte(d)) }

func (d digest) algorithm() string {
	if len(d) == crc32.Size {
		return sumCRC32C
	}
	return sumSHA256
}

// unknown is a digest of the length of an algorithm's.
func unknown(algorithm string) digest {
	if algorithm == sumCRC32C {
		return digest(make([]byte, crc32.Size))
	}
	return digest(make([]byte, sha256.Size))
}

// parseDigest reads hexadecimal digits.
func parseDigest(s string) (digest, bool) {
	if len(s) != 2*crc32.Size && len(s) != 2*sha256.Size {
		return "", false
	}
	b, err := hex.DecodeString(s)
	return digest(b), err == nil
}

// A summer computes digests of one kind.
type summer struct{ hash.Hash }

func newSummer(algorithm string) summer {
	if algorithm == sumCRC32C {
		return summer{crc32.New(castagnoli)}
	}
	return summer{sha256.New()}
}

func (s summer) digest() digest {
	if c, ok := s.Hash.(hash.Hash32); ok {
		return digest(binary.LittleEndian.AppendUint32(nil, c.Sum32()))
	}
	return digest(s.Sum(nil))
}

// A summed reader computes the digest of what it reads. At the end it writes it
// into the description of the item, which has one of the kind in that place, and
// tells it.
type summed struct {
	r    io.Reader
	sum  summer
	crc  summer // of an item that has a CRC beside the sum; or nil
	size int64
	it   backup.Item
	tell func(fileSum)
}

func newSummed(r io.Reader, it backup.Item, algorithm string, tell func(fileSum)) *summed {
	s := &summed{r: r, sum: newSummer(algorithm), it: it, tell: tell}
	if crcAt(it.Meta, unknown(algorithm)) >= 0 {
		s.crc = newSummer(sumCRC32C)
	}
	return s
}

func (s *summed) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.sum.Write(p[:n])
	if s.crc.Hash != nil {
		s.crc.Write(p[:n])
	}
	s.size += int64(n)
	if err == io.EOF && s.tell != nil {
		f := fileSum{s.size, s.sum.digest()}
		hex.Encode(s.it.Meta[sumAt(s.it.Meta, f.sum):], []byte(f.sum))
		if s.crc.Hash != nil {
			hex.Encode(s.it.Meta[crcAt(s.it.Meta, f.sum):], []byte(s.crc.digest()))
		}
		s.tell(f)
		s.tell = nil
	}
	return n, err
}
