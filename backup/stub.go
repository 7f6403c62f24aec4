package backup

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"

	"github.com/holdfast-go/holdfast/provider"
)

type Repository struct{}

func Init(ctx context.Context, c Config) (*Repository, error) { return nil, errors.ErrUnsupported }
func Open(ctx context.Context, c Config) (*Repository, error) { return nil, errors.ErrUnsupported }

// Backup makes a point of t under name, the workload's.
func (r *Repository) Backup(ctx context.Context, name string, t Target, o BackupOptions) (Point, error) {
	return Point{}, errors.ErrUnsupported
}
func (r *Repository) Restore(ctx context.Context, id PointID, t Target, d Destination, o RestoreOptions) error {
	return errors.ErrUnsupported
}

// Points lists the points of a workload, or all if name is empty, in ascending order of time.
func (r *Repository) Points(ctx context.Context, name string) iter.Seq2[Point, error] { return nil }
func (r *Repository) Point(ctx context.Context, id PointID) (Point, error) {
	return Point{}, errors.ErrUnsupported
}
func (r *Repository) Forget(ctx context.Context, id PointID) error { return errors.ErrUnsupported }
func (r *Repository) View(ctx context.Context, id PointID) (*View, error) {
	return nil, errors.ErrUnsupported
}
func (r *Repository) Check(ctx context.Context, o CheckOptions) (CheckReport, error) {
	return CheckReport{}, nil
}
func (r *Repository) Repair(ctx context.Context) (RepairReport, error)              { return RepairReport{}, nil }
func (r *Repository) Manifests(ctx context.Context) iter.Seq2[provider.Info, error] { return nil }
func (r *Repository) Objects(ctx context.Context, manifestKey string) iter.Seq2[provider.Info, error] {
	return nil
}

type CheckReport struct {
	Points   int
	Problems []Problem
}
type Problem struct {
	Key        string
	Points     []PointID
	Repairable bool
	Err        error
}
type RepairReport struct{}

// View is one point opened for reading.
type View struct{}

func (v *View) Point() Point                                             { return Point{} }
func (v *View) Items(ctx context.Context) iter.Seq2[Item, error]         { return nil }
func (v *View) Lookup(ctx context.Context, path string) (Item, error)    { return Item{}, nil }
func (v *View) Open(ctx context.Context, it Item) (io.ReadCloser, error) { return nil, nil }
func (v *View) Wrote(items, bytes int64)                                 {}

// Item is one entry of a point's tree.
type Item struct {
	Path      string
	Size      int64
	Meta      json.RawMessage
	BlockSize int
}

type Session struct{}

func (s *Session) Name() string                                        { return "" }
func (s *Session) Mode() Mode                                          { return "" }
func (s *Session) Parent() *View                                       { return nil }
func (s *Session) Add(ctx context.Context, it Item, r io.Reader) error { return nil }
func (s *Session) Reuse(ctx context.Context, prev, it Item) error      { return nil }
func (s *Session) External(e External) error                           { return nil }
func (s *Session) Warn(path string, err error)                         {}
