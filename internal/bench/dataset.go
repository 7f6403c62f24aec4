package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
)

// A dataset is a directory tree whose bytes follow from its seed and size
// alone, so that every run, everywhere, is about the same data:
//
//	random/   a third: four files that nothing can compress
//	shifted/  one of those again, with 7,919 bytes in front
//	text/     a quarter: log lines
//	pages/    a sixth: tables of 8 KiB pages, partly full
//	small/    the rest: files of 0.5 to 24 KiB, half text and half random
type dataset struct {
	dir  string
	seed uint64
	size int64 // bytes, about
}

const (
	page         = 8 << 10
	fullSize     = 1536 << 20 // the size of which the counts below are meant
	smallFiles   = 20_000
	perDirectory = 200
)

// scale turns a count for the full size into one for this size.
func (d dataset) scale(n int) int {
	return max(1, int(int64(n)*d.size/fullSize))
}

// A stream is one source of chance. Different names give different ones.
func (d dataset) stream(name string) *rand.ChaCha8 {
	var key [32]byte
	copy(key[:], fmt.Sprintf("%016x%s", d.seed, name))
	return rand.NewChaCha8(key)
}

// generate makes the tree. The directory must not exist.
func (d dataset) generate() error {
	if err := os.Mkdir(d.dir, 0o755); err != nil {
		return err
	}
	for i := range 4 {
		name := fmt.Sprintf("random/%d", i)
		if err := d.write(name, io.LimitReader(d.stream(name), d.size/12)); err != nil {
			return err
		}
	}
	shift := io.LimitReader(d.stream("shift"), 7919)
	if err := d.write("shifted/0", io.MultiReader(shift, io.LimitReader(d.stream("random/0"), d.size/12))); err != nil {
		return err
	}
	for i := range 6 {
		name := fmt.Sprintf("text/%d.log", i)
		if err := d.write(name, io.LimitReader(newLog(d.stream(name)), d.size/24)); err != nil {
			return err
		}
	}
	for i := range 2 {
		name := fmt.Sprintf("pages/%d", i)
		n := d.size / 12 / page * page
		if err := d.write(name, io.LimitReader(newTable(d.stream(name)), n)); err != nil {
			return err
		}
	}
	for i := range d.scale(smallFiles) {
		if err := d.small(i, 0); err != nil {
			return err
		}
	}
	return nil
}

func smallName(i int) string { return fmt.Sprintf("small/%03d/%06d", i/perDirectory, i) }

// small writes a small file as it is after step k.
func (d dataset) small(i, k int) error {
	s := d.stream(fmt.Sprintf("small%d.%d", i, k))
	n := int64(512 + rand.New(s).IntN(24<<10-512))
	var r io.Reader = s
	if i%2 == 0 {
		r = newLog(s)
	}
	return d.write(smallName(i), io.LimitReader(r, n))
}

func (d dataset) write(name string, r io.Reader) error {
	full := filepath.Join(d.dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		return err
	}
	f, err := os.Create(full)
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, r); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// mutate makes step k of changes, 1 and up, of about one percent: pages of
// the tables overwritten in place, two logs grown, 1 KiB inserted in the
// middle of a large file, small files rewritten, added and deleted.
func (d dataset) mutate(k int) error {
	s := d.stream(fmt.Sprintf("mutate%d", k))
	r := rand.New(s)
	rows := newTable(s)
	for range d.scale(320) {
		if err := d.overwritePage(fmt.Sprintf("pages/%d", r.IntN(2)), r.Int64(), rows); err != nil {
			return err
		}
	}
	for i := range 2 {
		if err := d.appendTo(fmt.Sprintf("text/%d.log", (k+i)%6), io.LimitReader(newLog(s), d.size/768)); err != nil {
			return err
		}
	}
	if err := d.insert(fmt.Sprintf("random/%d", k%4), io.LimitReader(s, 1024)); err != nil {
		return err
	}
	n, few := d.scale(smallFiles), d.scale(50)
	for range d.scale(200) {
		// Those that were deleted are at the front, see below.
		if err := d.small(k*few+r.IntN(n-k*few), k); err != nil {
			return err
		}
	}
	for i := range few {
		if err := d.small(n+k*few+i, k); err != nil {
			return err
		}
		if err := os.Remove(filepath.Join(d.dir, filepath.FromSlash(smallName((k-1)*few+i)))); err != nil {
			return err
		}
	}
	return nil
}

// maxSteps is how many steps of changes a tree lasts for.
const maxSteps = 20

func (d dataset) overwritePage(name string, at int64, r io.Reader) error {
	f, err := os.OpenFile(filepath.Join(d.dir, name), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	var b [page]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return err
	}
	if _, err := f.WriteAt(b[:], at%(fi.Size()/page)*page); err != nil {
		return err
	}
	return f.Close()
}

func (d dataset) appendTo(name string, r io.Reader) error {
	f, err := os.OpenFile(filepath.Join(d.dir, name), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.Copy(f, r); err != nil {
		return err
	}
	return f.Close()
}

// insert puts bytes into the middle of a file, by way of a second file.
func (d dataset) insert(name string, r io.Reader) error {
	full := filepath.Join(d.dir, name)
	old, err := os.Open(full)
	if err != nil {
		return err
	}
	defer old.Close()
	fi, err := old.Stat()
	if err != nil {
		return err
	}
	if err := d.write(name+".new", io.MultiReader(io.LimitReader(old, fi.Size()/2), r, old)); err != nil {
		return err
	}
	return os.Rename(full+".new", full)
}

// A log is endless text, as a service writes it.
type log struct {
	r    *rand.Rand
	now  int
	line []byte
	rest []byte
}

func newLog(s rand.Source) *log { return &log{r: rand.New(s), now: 1_700_000_000} }

var (
	levels = []string{"INFO", "INFO", "INFO", "WARN", "DEBUG", "ERROR"}
	verbs  = []string{"GET", "GET", "POST", "PUT", "DELETE"}
	paths  = []string{"/api/v1/orders/", "/api/v1/users/", "/static/app/", "/healthz/", "/api/v2/search/"}
)

func (l *log) Read(p []byte) (n int, err error) {
	for n < len(p) {
		if len(l.rest) == 0 {
			l.next()
		}
		m := copy(p[n:], l.rest)
		l.rest = l.rest[m:]
		n += m
	}
	return n, nil
}

func (l *log) next() {
	l.now += l.r.IntN(3)
	b := strconv.AppendInt(l.line[:0], int64(l.now), 10)
	b = append(append(b, ' '), levels[l.r.IntN(len(levels))]...)
	b = append(append(b, " request="...), strconv.FormatUint(l.r.Uint64(), 36)...)
	b = append(append(b, ' '), verbs[l.r.IntN(len(verbs))]...)
	b = append(append(b, ' '), paths[l.r.IntN(len(paths))]...)
	b = strconv.AppendInt(b, int64(l.r.IntN(100_000)), 10)
	b = strconv.AppendInt(append(b, " status="...), int64(200+l.r.IntN(4)*100), 10)
	b = strconv.AppendInt(append(b, " ms="...), int64(l.r.IntN(900)), 10)
	l.line = append(b, '\n')
	l.rest = l.line
}

// A table is endless pages, as PostgreSQL writes them: a header, line
// pointers, a hole, and rows of numbers and words.
type table struct {
	r    *rand.Rand
	text *log
	page [page]byte
	rest []byte
	lsn  uint64
}

func newTable(s rand.Source) *table { return &table{r: rand.New(s), text: newLog(s)} }

func (t *table) Read(p []byte) (n int, err error) {
	for n < len(p) {
		if len(t.rest) == 0 {
			t.next()
		}
		m := copy(p[n:], t.rest)
		t.rest = t.rest[m:]
		n += m
	}
	return n, nil
}

const (
	pageHeader  = 24
	linePointer = 4
	row         = 128
)

func (t *table) next() {
	clear(t.page[:])
	t.lsn += t.r.Uint64N(1 << 16)
	rows := 32 + t.r.IntN(28)
	upper := page - rows*row
	le := binary.LittleEndian
	le.PutUint64(t.page[0:], t.lsn)
	le.PutUint16(t.page[8:], uint16(t.r.Uint32())) // checksum
	le.PutUint16(t.page[12:], uint16(pageHeader+rows*linePointer))
	le.PutUint16(t.page[14:], uint16(upper))
	le.PutUint16(t.page[16:], page)
	le.PutUint16(t.page[18:], page|4) // size and version of the layout
	for i := range rows {
		at := page - (i+1)*row
		le.PutUint32(t.page[pageHeader+i*linePointer:], uint32(at)|1<<15|row<<17)
		b := t.page[at:][:row]
		for j := 0; j < 32; j += 8 {
			copy(b[j:], fmt.Appendf(nil, "%08x", uint32(t.r.Uint64())))
		}
		t.text.Read(b[32:])
	}
	t.rest = t.page[:]
}

// sameTree reports how two trees differ in names, sizes and bytes.
func sameTree(a, b string) error {
	count := func(dir string) (n int, err error) {
		err = filepath.WalkDir(dir, func(string, fs.DirEntry, error) error { n++; return nil })
		return n, err
	}
	n, err := count(a)
	if err != nil {
		return err
	}
	m, err := count(b)
	if err != nil {
		return err
	}
	if n != m {
		return fmt.Errorf("%s has %d entries, %s has %d", a, n, b, m)
	}
	x, y := make([]byte, 1<<20), make([]byte, 1<<20)
	return filepath.WalkDir(a, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		rel, err := filepath.Rel(a, path)
		if err != nil {
			return err
		}
		return sameFile(path, filepath.Join(b, rel), x, y)
	})
}

func sameFile(a, b string, x, y []byte) error {
	f, err := os.Open(a)
	if err != nil {
		return err
	}
	defer f.Close()
	g, err := os.Open(b)
	if err != nil {
		return err
	}
	defer g.Close()
	for {
		n, errA := io.ReadFull(f, x)
		m, errB := io.ReadFull(g, y)
		if !bytes.Equal(x[:n], y[:m]) {
			return fmt.Errorf("%s and %s differ", a, b)
		}
		if errA != nil || errB != nil {
			if (errA == io.EOF || errA == io.ErrUnexpectedEOF) && (errB == io.EOF || errB == io.ErrUnexpectedEOF) {
				return nil
			}
			return fmt.Errorf("compare %s: %w", a, cmpErr(errA, errB))
		}
	}
}

func cmpErr(a, b error) error {
	if a != nil && a != io.EOF && a != io.ErrUnexpectedEOF {
		return a
	}
	return b
}
