package backup

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// A checkpoint is a signed note (the format of golang.org/x/mod/sumdb/note):
//
//	holdfast checkpoint v1
//	<id of the repository>
//	<time, RFC 3339>
//	<number of points>
//	<id of a point> <SHA-256 of its manifest, or a dash if it was unreadable>
//	...

const (
	checkpointTitle = "holdfast checkpoint v1"
	maxCheckpoint   = 256 << 20
)

// Checkpoint returns a signed text that names every point there is. Keep it
// where whoever can write to the repository cannot: in another store, in
// print. [Repository.VerifyCheckpoint] then shows what has vanished or was
// replaced since, the latest points and a return to an old copy of the whole
// store included. It takes about 105 bytes a point and tells ids, that is
// times, and nothing else.
func (r *Repository) Checkpoint(ctx context.Context) ([]byte, error) {
	if err := r.readable(); err != nil {
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	r, err := r.uncached(ctx)
	if err != nil {
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	var points bytes.Buffer
	n := 0
	for m, err := range r.manifests(ctx) {
		if err != nil {
			return nil, fmt.Errorf("checkpoint: %w", err)
		}
		sum := "-"
		if m.point.Damaged == "" {
			sum = hex.EncodeToString(m.sum[:])
		}
		fmt.Fprintf(&points, "%s %s\n", m.point.ID, sum)
		n++
	}
	text := fmt.Sprintf("%s\n%s\n%s\n%d\n%s", checkpointTitle, r.keys.format.ID, time.Now().UTC().Format(time.RFC3339), n, points.Bytes())
	b, err := note.Sign(&note.Note{Text: text}, checkpointSigner{r.keys.format.ID, r.keys.generation, r.keys.authority})
	if err != nil {
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	return b, nil
}

// VerifyCheckpoint compares the repository with a checkpoint of it, and
// returns what is missing and what was replaced; nothing if all is as it
// should be. What was forgotten since is no omission. ErrDamaged if the
// checkpoint is not signed by a holder of this repository's key.
func (r *Repository) VerifyCheckpoint(ctx context.Context, checkpoint []byte) ([]Omission, error) {
	if err := r.readable(); err != nil {
		return nil, fmt.Errorf("verify checkpoint: %w", err)
	}
	r, err := r.uncached(ctx)
	if err != nil {
		return nil, fmt.Errorf("verify checkpoint: %w", err)
	}
	want, err := r.keys.openCheckpoint(checkpoint)
	if err != nil {
		return nil, fmt.Errorf("verify checkpoint: %w", err)
	}
	have := map[PointID][]byte{}
	for m, err := range r.manifests(ctx) {
		if err != nil {
			return nil, fmt.Errorf("verify checkpoint: %w", err)
		}
		have[m.point.ID] = m.hash()
	}
	out, err := r.omitted(ctx, want, have)
	if err != nil {
		return nil, fmt.Errorf("verify checkpoint: %w", err)
	}
	return out, nil
}

// uncached is the repository with the present keys, which show who has written
// what, and without a cache: what the store shows counts, not what it was.
func (r *Repository) uncached(ctx context.Context) (*Repository, error) {
	r, err := r.current(ctx)
	if err != nil {
		return nil, err
	}
	return newRepository(r.c, r.keys), nil
}

// hash is that of a manifest, or nil if it could not be read.
func (m manifest) hash() []byte {
	if m.point.Damaged != "" {
		return nil
	}
	return m.sum[:]
}

func (k *keys) openCheckpoint(b []byte) ([]link, error) {
	if len(b) > maxCheckpoint {
		return nil, fmt.Errorf("%w: %d bytes", ErrDamaged, len(b))
	}
	var verifiers []note.Verifier
	for generation, public := range k.authorities {
		verifiers = append(verifiers, checkpointVerifier{k.format.ID, generation, public})
	}
	n, err := note.Open(b, note.VerifierList(verifiers...))
	if err != nil {
		return nil, fmt.Errorf("%w: signature: %v", ErrDamaged, err)
	}
	lines := bufio.NewScanner(strings.NewReader(n.Text))
	var head [4]string
	for i := range head {
		lines.Scan()
		head[i] = lines.Text()
	}
	if head[0] != checkpointTitle || head[1] != k.format.ID {
		return nil, fmt.Errorf("%w: %.60q of repository %.40q", ErrFormat, head[0], head[1])
	}
	var out []link
	for lines.Scan() {
		id, sum, _ := strings.Cut(lines.Text(), " ")
		if _, err := PointID(id).Time(); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		if sum == "-" {
			continue // unreadable then; there is nothing to compare with
		}
		h, err := hex.DecodeString(sum)
		if err != nil || len(h) != sha256.Size {
			return nil, fmt.Errorf("%w: hash %.80q", ErrDamaged, sum)
		}
		out = append(out, link{PointID(id), h})
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return out, nil
}

// checkpointName names the key that has signed.
func checkpointName(repository string, generation int) string {
	return fmt.Sprintf("holdfast/%s/%d", repository, generation)
}

func checkpointHash(name string, public ed25519.PublicKey) uint32 {
	sum := sha256.Sum256([]byte(name + "\n\x01" + string(public)))
	return binary.BigEndian.Uint32(sum[:])
}

type checkpointSigner struct {
	repository string
	generation int
	key        ed25519.PrivateKey
}

func (s checkpointSigner) Name() string { return checkpointName(s.repository, s.generation) }
func (s checkpointSigner) KeyHash() uint32 {
	return checkpointHash(s.Name(), s.key.Public().(ed25519.PublicKey))
}
func (s checkpointSigner) Sign(msg []byte) ([]byte, error) { return ed25519.Sign(s.key, msg), nil }

type checkpointVerifier struct {
	repository string
	generation int
	key        ed25519.PublicKey
}

func (v checkpointVerifier) Name() string                { return checkpointName(v.repository, v.generation) }
func (v checkpointVerifier) KeyHash() uint32             { return checkpointHash(v.Name(), v.key) }
func (v checkpointVerifier) Verify(msg, sig []byte) bool { return ed25519.Verify(v.key, msg, sig) }
