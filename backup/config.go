package backup

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"runtime"
	"time"

	"github.com/holdfast-go/holdfast/provider"
)

// Config says where a repository is and how to work with it. Only Store and
// Keyring, or Credential, are required.
type Config struct {
	Store   provider.BlobStore // the repository is all of it; wrap a store in a prefix to share a bucket
	Keyring Keyring

	// Credential, instead of Keyring, makes a process that can back up and
	// read nothing; Writer is then the credential's.
	Credential Credential

	Writer string       // recorded in what this process writes, [a-zA-Z0-9._-], at most 64; default: the host's name
	Logger *slog.Logger // default: discards

	// Algorithms is the policy on algorithms; Init records it.
	Algorithms Algorithms

	// Lock protects what is written from being deleted; default: not.
	Lock Lock

	// Workers compress and encrypt; default runtime.GOMAXPROCS(0).
	Workers int
	// Uploads is how many packs are uploaded at once; default 2.
	Uploads int
	// PackSize is about how large a pack becomes, 1 MiB to 512 MiB; default
	// 16 MiB. A backup takes Uploads+1 of them in memory. Every point lists
	// the packs it needs, so repositories of many TiB do well with more.
	PackSize int

	// Cache is a directory for what would otherwise be read from the store
	// again and again: indexes, manifests, lists of items. It is made if
	// missing, may be shared by any number of repositories and processes,
	// holds nothing in the clear, and can be removed at any time. Default:
	// none. [Repository.Check] never believes it. A backup notes in it what
	// it is about to store, so that after a kill the next one goes on from
	// there without reading any of it.
	//
	// With a Credential it is also what Incremental and Differential need:
	// such a process cannot read its earlier points, and compares with what
	// it finds of them in here. Without a Cache, or when it was lost, it
	// reads everything, once. Whoever gets both the Credential and the Cache
	// learns from them the names, sizes and descriptions of the items of
	// this writer's points, those of some time ago included, and no content.
	Cache string
	// CacheSize is about how many bytes each repository may keep in Cache;
	// default 4 GiB. What was not used for longest goes first; with a
	// Credential lists of items that were used within 30 days outlast the
	// rest. They take some 200 bytes an item, and all those of the latest
	// point of each workload should have room.
	CacheSize int64

	clock func() time.Time // of the process; nil: time.Now
}

// now is the time by the clock of the process.
func (c Config) now() time.Time {
	if c.clock != nil {
		return c.clock()
	}
	return time.Now()
}

var writerPattern = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,64}$`)

// withDefaults validates c and fills in what is zero.
func (c Config) withDefaults() (Config, error) {
	var errs []error
	if c.Store == nil {
		errs = append(errs, errors.New("field Store is nil"))
	}
	if c.Credential.given() {
		if len(c.Keyring.Identities)+len(c.Keyring.Recipients) > 0 {
			errs = append(errs, errors.New("fields Keyring and Credential are both set; a process either reads or does not"))
		}
		if c.Writer != "" && c.Writer != c.Credential.name {
			errs = append(errs, fmt.Errorf("field Writer is %.64q, the credential is for %q; leave it empty", c.Writer, c.Credential.name))
		}
		c.Writer = c.Credential.name
	}
	c.Store = firstIn(c.Store)
	if c.Writer == "" {
		c.Writer = defaultWriter()
	}
	if !writerPattern.MatchString(c.Writer) {
		errs = append(errs, fmt.Errorf("field Writer: %.80q: want 1 to 64 of [a-zA-Z0-9._-]", c.Writer))
	}
	if err := c.checkPolicy(); err != nil {
		errs = append(errs, err)
	}
	if err := c.Lock.valid(); err != nil {
		errs = append(errs, err)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	c.Workers = orDefault(c.Workers, runtime.GOMAXPROCS(0))
	c.Uploads = orDefault(c.Uploads, 2)
	c.PackSize = orDefault(c.PackSize, 16<<20)
	c.CacheSize = orDefault(c.CacheSize, defaultCacheSize)
	if c.CacheSize < 1<<20 {
		errs = append(errs, fmt.Errorf("field CacheSize is %d, want at least 1 MiB", c.CacheSize))
	}
	for _, f := range []struct {
		name          string
		v, least, top int
	}{{"Workers", c.Workers, 1, 1024}, {"Uploads", c.Uploads, 1, 1024}, {"PackSize", c.PackSize, 1 << 20, 512 << 20}} {
		if f.v < f.least || f.v > f.top {
			errs = append(errs, fmt.Errorf("field %s is %d, want %d to %d", f.name, f.v, f.least, f.top))
		}
	}
	if len(errs) > 0 {
		return c, fmt.Errorf("backup config: %w", errors.Join(errs...))
	}
	return c, nil
}

func orDefault[T comparable](v, d T) T {
	if v == *new(T) {
		return d
	}
	return v
}

func defaultWriter() string {
	host, err := os.Hostname()
	if err != nil || host == "" {
		return "unnamed"
	}
	b := []byte(host)
	for i, c := range b {
		if !writerPattern.Match([]byte{c}) {
			b[i] = '-'
		}
	}
	return string(b[:min(len(b), 64)])
}

// BackupOptions say how to make a point. The zero value is a Full backup.
type BackupOptions struct {
	Mode     Mode
	Tags     map[string]string // recorded in the point; at most 64, of at most 256 bytes each
	Time     time.Time         // recorded as the beginning; default: now
	Progress func(Progress)    // called now and then from one goroutine, and at the end

	// Compression is how content that is new is compressed. Default: Zstd.
	Compression Compression

	safety *Safety
}

// Compression is a way to compress content. Points share content that was
// compressed in different ways, and each process reads all of them.
type Compression string

// The compressions.
const (
	Zstd   Compression = "zstd"   // fast, and small
	Snappy Compression = "snappy" // four times as fast, and up to twice as large: where processors, and not the store, limit a backup
)

// RestoreOptions say how to restore.
type RestoreOptions struct {
	Progress func(Progress) // called now and then, not concurrently, and at the end

	// Safety, if not nil, makes the restore one that can be undone. Before
	// anything is changed, what is at the destination and would be changed
	// becomes a point of its own, and Safety is called with it: keep its ID
	// for [Repository.Undo]. If Safety returns an error, nothing is
	// restored. The target must be an [Undoer], and nobody else should write
	// to the destination meanwhile: what is written between the safety point
	// and the restore is not in it.
	Safety func(Point) error
}
