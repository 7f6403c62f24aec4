package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strconv"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/aws"
)

// client is one step of Holdfast against rclone, in a process of its own: what
// a program that embeds provider/aws does.
//
//	client N upload DIRECTORY BUCKET
//	client N download BUCKET DIRECTORY
//	client N copy BUCKET BUCKET
//	client N list BUCKET
//
// N objects are under way. Where the server is, and the credential, is in the
// environment. With BENCH_PROFILE set it writes the profiles that drive does.
func client(ctx context.Context, args []string) error {
	return profiled(func() error { return clientStep(ctx, args) })
}

func clientStep(ctx context.Context, args []string) error {
	if len(args) < 3 {
		return errors.New("client: want N STEP BUCKET")
	}
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	switch step, args := args[1], args[2:]; {
	case step == "upload" && len(args) == 2:
		return upload(ctx, n, args[0], args[1])
	case step == "download" && len(args) == 2:
		return download(ctx, n, args[0], args[1])
	case step == "copy" && len(args) == 2:
		return copyObjects(ctx, n, args[0], args[1])
	case step == "list" && len(args) == 1:
		return list(ctx, args[0])
	}
	return fmt.Errorf("client: %q: no such step, or not so many arguments", args)
}

// partSize makes a Put hold 40 MiB: some of them are under way.
const partSize = 8 << 20

func bucket(ctx context.Context, name string) (*aws.Store, error) {
	return aws.Open(ctx, aws.Config{Bucket: name, Endpoint: os.Getenv("BENCH_ENDPOINT"), PathStyle: true,
		PartSize: partSize, ListAhead: underWay})
}

// inTurn has n workers do to what all yields, until an error. Workers stay the
// same: a goroutine for each object would have to grow its stack again each
// time, which is a fifth of the processor time of a small one.
func inTurn[T any](ctx context.Context, n int, all iter.Seq2[T, error], do func(context.Context, T) error) error {
	g, ctx := errgroup.WithContext(ctx)
	todo := make(chan T, n)
	for range n {
		g.Go(func() error {
			for t := range todo {
				if err := do(ctx, t); err != nil {
					return err
				}
			}
			return nil
		})
	}
	g.Go(func() error {
		defer close(todo)
		for t, err := range all {
			if err != nil {
				return err
			}
			select {
			case todo <- t:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	return g.Wait()
}

// upload puts each file below dir under its path.
func upload(ctx context.Context, n int, dir, name string) error {
	s, err := bucket(ctx, name)
	if err != nil {
		return err
	}
	files := func(yield func(string, error) bool) {
		err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			if err == nil && e.Type().IsRegular() && !yield(path, nil) {
				return fs.SkipAll
			}
			return err
		})
		if err != nil {
			yield("", err)
		}
	}
	return inTurn(ctx, n, files, func(ctx context.Context, path string) error {
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		return uploadFile(ctx, s, filepath.ToSlash(rel), f)
	})
}

// uploadFile hashes what goes up in parts first: then the sum is kept with the
// object, and whoever downloads it sees that he has the same bytes. Rclone
// does the same with an MD5.
func uploadFile(ctx context.Context, s provider.BlobStore, key string, f *os.File) error {
	body, err := provider.FileBody(f)
	if err != nil {
		return err
	}
	var o provider.PutOptions
	if body.Size() > partSize {
		h := sha256.New()
		if _, err := io.CopyBuffer(h, io.NewSectionReader(body, 0, body.Size()), make([]byte, 256<<10)); err != nil {
			return err
		}
		o.SHA256 = [32]byte(h.Sum(nil))
	}
	_, err = s.Put(ctx, key, body, o)
	return err
}

// download gets every object into a file.
func download(ctx context.Context, n int, name, dir string) error {
	s, err := bucket(ctx, name)
	if err != nil {
		return err
	}
	return inTurn(ctx, n, s.List(ctx, "", provider.ListOptions{}), func(ctx context.Context, info provider.Info) error {
		return fetchObject(ctx, s, info, filepath.Join(dir, filepath.FromSlash(info.Key)))
	})
}

func fetchObject(ctx context.Context, s provider.BlobStore, info provider.Info, path string) (err error) {
	r, _, err := s.Get(ctx, info.Key, provider.GetOptions{Version: info.Version})
	if err != nil {
		return err
	}
	defer r.Close()
	f, err := os.Create(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		f, err = os.Create(path)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = io.Copy(f, r)
	return err
}

// copyObjects has the server copy every object to another bucket.
func copyObjects(ctx context.Context, n int, from, to string) error {
	s, err := bucket(ctx, from)
	if err != nil {
		return err
	}
	t, err := bucket(ctx, to)
	if err != nil {
		return err
	}
	return inTurn(ctx, n, s.List(ctx, "", provider.ListOptions{}), func(ctx context.Context, info provider.Info) error {
		_, err := t.CopyFrom(ctx, info.Key, s, info, provider.PutOptions{})
		return err
	})
}

// list prints every key.
func list(ctx context.Context, name string) error {
	s, err := bucket(ctx, name)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(os.Stdout)
	for info, err := range s.List(ctx, "", provider.ListOptions{}) {
		if err != nil {
			return err
		}
		out.WriteString(info.Key)
		out.WriteByte('\n')
	}
	return out.Flush()
}

// profiled runs f, with profiles if BENCH_PROFILE names them.
func profiled(f func() error) error {
	name := os.Getenv("BENCH_PROFILE")
	if _, err := os.Stat("/prof"); err == nil {
		name = "/prof/x"
		for _, a := range os.Args[4:] {
			name += "-" + filepath.Base(a)
		}
	}
	if name == "" {
		return f()
	}
	cpu, err := os.Create(name + ".cpu")
	if err != nil {
		return err
	}
	defer cpu.Close()
	if err := pprof.StartCPUProfile(cpu); err != nil {
		return err
	}
	err = f()
	pprof.StopCPUProfile()
	mem, memErr := os.Create(name + ".mem")
	if memErr != nil {
		return errors.Join(err, memErr)
	}
	defer mem.Close()
	runtime.GC() // the profile is as of the last one
	return errors.Join(err, pprof.Lookup("allocs").WriteTo(mem, 0))
}
