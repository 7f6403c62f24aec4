package backup

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/local"
)

// The memory of blocks is used again, so readers at many places at once must
// each see their own bytes for as long as they look at them.
func TestBlocksInUseKeepTheirMemory(t *testing.T) {
	s, err := local.NewBlobStore(local.Config{Dir: t.TempDir(), Create: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	content := make([]byte, (cacheBlocks+4)*blockSize+1234)
	rand.NewChaCha8([32]byte{}).Read(content)
	p := packInfo{sum: sha256.Sum256(content), kind: kindData, size: int64(len(content))}
	if _, err := s.Put(t.Context(), p.key(), provider.Bytes(content), provider.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	c := newBlockCache(s)
	var wg sync.WaitGroup
	for reader := range 8 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(reader)))
			var scratch []byte
			for range 40 {
				n := 1 + r.Int64N(maxFrame)
				off := r.Int64N(p.size - n)
				var err error
				scratch, err = c.read(t.Context(), 0, p, off, n, scratch, func(b []byte) error {
					for range 3 {
						runtime.Gosched() // others fetch meanwhile
						if !bytes.Equal(b, content[off:off+n]) {
							return fmt.Errorf("%d bytes at %d are others", n, off)
						}
					}
					return nil
				})
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	for _, b := range c.order {
		if b.users != 1 {
			t.Errorf("block %d has %d users when all are done, the cache should be the only one", b.key.n, b.users)
		}
	}
	if len(c.order) > cacheBlocks || len(c.m) != len(c.order) {
		t.Errorf("%d blocks in order, %d in the map", len(c.order), len(c.m))
	}
}
