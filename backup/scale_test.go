package backup

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"iter"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"text/tabwriter"
	"time"

	"filippo.io/age"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/local"
)

// TestScaleOfChunks loads the indexes of repositories of a sixteenth, a
// quarter and all of so many chunks, and looks chunks up. The indexes are
// real, the packs they list are not there. HOLDFAST_CHUNKS is the number;
// -v prints the table.
func TestScaleOfChunks(t *testing.T) {
	n := 320_000
	if s := os.Getenv("HOLDFAST_CHUNKS"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil || n < 160_000 {
			t.Fatalf("HOLDFAST_CHUNKS=%s: want a number of at least 160000", s)
		}
	}
	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "chunks\tindexes\trequests\tload s\tload ns/chunk\theap B/chunk\tfind ns\tmark ns\tpeak MB\t")
	var all []scaleRow
	for _, n := range []int{n / 16, n / 4, n} {
		r := scaleOf(t, n)
		all = append(all, r)
		fmt.Fprintf(w, "%d\t%d\t%d\t%.2f\t%.0f\t%.1f\t%.0f\t%.0f\t%d\t\n", r.chunks, r.indexes, r.requests, r.load.Seconds(),
			float64(r.load.Nanoseconds())/float64(r.chunks), r.heap, r.find, r.mark, r.peak>>20)
	}
	w.Flush()
	t.Log("\n" + table.String())
	last := all[len(all)-1]
	if last.heap > 64 {
		t.Errorf("%.1f bytes of memory for each chunk, want at most 64", last.heap)
	}
	for _, r := range all {
		if r.requests > int64(r.indexes)+1 {
			t.Errorf("%d requests to read %d indexes", r.requests, r.indexes)
		}
	}
}

type scaleRow struct {
	chunks, indexes int
	requests        int64
	load            time.Duration
	heap            float64 // bytes a chunk, once all is loaded
	find, mark      float64 // nanoseconds
	peak            int64   // bytes of the process so far
}

const (
	scalePerPack  = 40      // chunks: 8 MiB of them
	scalePerIndex = 100_000 // chunks, as after a prune has put indexes together
)

// scaleOf measures with n chunks.
func scaleOf(t *testing.T, n int) scaleRow {
	ctx := t.Context()
	dir, err := local.NewBlobStore(local.Config{Dir: t.TempDir() + "/store", Create: true})
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	store := &countingStore{BlobStore: dir}
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	writer, err := Init(ctx, Config{Store: store, Keyring: Keyring{Recipients: AgeRecipients(key.Recipient()), Identities: AgeIdentities(key)}})
	if err != nil {
		t.Fatal(err)
	}
	row := scaleRow{chunks: n}
	for from := 0; from < n; from += scalePerIndex {
		b, err := writer.keys.encodeIndex("", scalePacks(writer.keys.self, from, min(from+scalePerIndex, n)))
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(b)
		if err := writer.create(ctx, indexKey(sum), sum, b); err != nil {
			t.Fatal(err)
		}
		row.indexes++
	}
	keys, c := writer.keys, writer.c
	writer = nil
	store.n.Store(0)
	before := heapInUse()
	r := newRepository(c, keys)
	start := time.Now()
	if err := r.load(ctx); err != nil {
		t.Fatal(err)
	}
	row.load = time.Since(start)
	row.requests = store.n.Load()
	row.heap = float64(heapInUse()-before) / float64(n)

	const looks = 100_000
	missing := 0
	start = time.Now()
	for i := range looks {
		if _, ok := r.index.first(scaleID(i * 7919 % n)); !ok {
			missing++
		}
	}
	row.find = float64(time.Since(start).Nanoseconds()) / looks
	if missing > 0 {
		t.Errorf("%d of %d chunks are not found", missing, looks)
	}
	if _, ok := r.index.first(scaleID(n)); ok {
		t.Error("a chunk is found that is in no pack")
	}
	live := newLiveSet(r)
	live.reset()
	start = time.Now()
	for i := range looks {
		live.mark(scaleID(i * 7919 % n))
	}
	row.mark = float64(time.Since(start).Nanoseconds()) / looks
	runtime.KeepAlive(r)
	row.peak = peakMemory()
	return row
}

// scalePacks describes packs with the chunks from one number to another.
func scalePacks(by author, from, to int) []packRecord {
	var out []packRecord
	for i := from; i < to; i += scalePerPack {
		p := packRecord{by: by, sum: scaleID(-1 - i), kind: kindData, salt: make([]byte, 32), session: "20261123t000000.000z-0000000000000000", enc: make([]byte, 1153)}
		off := 4096
		for j := i; j < min(i+scalePerPack, to); j++ {
			p.entries = append(p.entries, packEntry{ref: ref{id: scaleID(j), plain: 256 << 10}, off: uint32(off), stored: 200 << 10})
			off += 200 << 10
		}
		p.size = int64(off) + 4096
		out = append(out, p)
	}
	return out
}

func scaleID(i int) chunkID {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(i))
	return sha256.Sum256(b[:])
}

func heapInUse() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// peakMemory is the most that this process has ever had in memory, or 0
// where the system does not tell.
func peakMemory() int64 {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), "VmHWM:")
	kib, _ := strconv.ParseInt(strings.TrimSpace(strings.SplitN(rest, "kB", 2)[0]), 10, 64)
	return kib << 10
}

// countingStore counts what is read; a listing counts once for 1,000 objects.
type countingStore struct {
	provider.BlobStore
	n atomic.Int64
}

func (s *countingStore) Get(ctx context.Context, key string, o provider.GetOptions) (io.ReadCloser, provider.Info, error) {
	s.n.Add(1)
	return s.BlobStore.Get(ctx, key, o)
}

func (s *countingStore) Stat(ctx context.Context, key string) (provider.Info, error) {
	s.n.Add(1)
	return s.BlobStore.Stat(ctx, key)
}

func (s *countingStore) List(ctx context.Context, prefix string, o provider.ListOptions) iter.Seq2[provider.Info, error] {
	return func(yield func(provider.Info, error) bool) {
		s.n.Add(1)
		n := 0
		for info, err := range s.BlobStore.List(ctx, prefix, o) {
			if n++; n%1000 == 0 {
				s.n.Add(1)
			}
			if !yield(info, err) {
				return
			}
		}
	}
}
