package dr

import (
	"context"
	"log/slog"
	"maps"
	"math"
	"strings"
	"time"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/dr/notify"
	"github.com/holdfast-go/holdfast/failover"
	"github.com/holdfast-go/holdfast/provider"
)

// Parts are the things a [Config] names only by kind. A program fills in
// those it uses; [New] says which ones the configuration needs and are not
// there.
type Parts struct {
	// Stores opens the bucket of a site, by the scheme of its URL ("file",
	// "https", "s3").
	Stores map[string]StoreOpener

	// Targets opens a workload, by its type ("files", "postgres").
	Targets map[string]TargetOpener

	// Checkers judge what a drill restored, by the type of the workload.
	// Without one a drill shows that a point can be restored, but proves
	// nothing about the data.
	Checkers map[string]Checker

	// Surveyors say to which moments a workload can be restored, by its type;
	// without one, to its points.
	Surveyors map[string]Surveyor

	// SetAside empties a place before a failover restores to it, by the type
	// of the workload: it moves away what is there, and deletes nothing. It
	// is called before every attempt. Without one, restoring to a place that
	// is not empty does what the target does then.
	SetAside map[string]func(ctx context.Context, d backup.Destination) error

	// DNS opens the zone of Config.DNS.
	DNS func(ctx context.Context, d DNS) (provider.DNSProvider, error)

	// TrafficSwitch opens the switch of Config.TrafficSwitch.
	TrafficSwitch func(ctx context.Context, s TrafficSwitch) (provider.TrafficSwitch, error)

	// Notify holds what the channels of Config.Notify need besides their
	// names.
	Notify notify.Config

	// Primary and Standby say how the service at each site is stopped,
	// started and asked how it is. Failover needs them, backups do not.
	Primary SiteParts
	Standby SiteParts

	// Actions replace or add actions of failover plans by name, such as
	// "test/start", which starts the service in isolation.
	Actions map[string]failover.Action

	// Events, if set, hears of everything a Planner does, one call at a
	// time. It must not block.
	Events func(Event)

	Logger *slog.Logger // nil discards
}

// StoreOpener opens the bucket of a site. The store holds what is below
// Site.Bucket and nothing else.
type StoreOpener func(ctx context.Context, s Site) (provider.BlobStore, error)

// TargetOpener makes the target of a workload. It is called anew for every
// backup, restore and drill.
type TargetOpener func(ctx context.Context, w Workload) (backup.Target, error)

// A Checker judges restored data.
type Checker interface {
	// Check returns nil if what was restored to d from p is good: an
	// application would work on it.
	Check(ctx context.Context, w Workload, p backup.Point, d backup.Destination) error

	// Remove deletes what was restored to d, wholly or in part. Nothing
	// there is no error.
	Remove(ctx context.Context, d backup.Destination) error

	// Gone looks whether nothing of d is there. It changes nothing.
	Gone(ctx context.Context, d backup.Destination) (bool, error)
}

// An Examiner is a [Checker] that says what it has found, good or not. A drill
// calls Examine in the place of Check.
type Examiner interface {
	Checker
	Examine(ctx context.Context, w Workload, p backup.Point, d backup.Destination) (Examination, error)
}

// An Examination is what was found out about restored data.
type Examination struct {
	// Newest is up to when all changes are in the data, as far as is known:
	// when the last of them was made, by the clock of the source, or the backup
	// began, if nothing was changed since; zero: not known.
	Newest time.Time

	// Measured are numbers that a [Surveyor] of the same type understands. They
	// are kept in the Proof.
	Measured map[string]float64

	// Text says what was looked at, in lines for people. Of more than 64 KiB
	// the rest is lost.
	Text string
}

const maxExamination = 64 << 10

// examine has restored data judged.
func examine(ctx context.Context, c Checker, w Workload, p backup.Point, d backup.Destination) (Examination, error) {
	e, ok := c.(Examiner)
	if !ok {
		return Examination{}, c.Check(ctx, w, p, d)
	}
	x, err := e.Examine(ctx, w, p, d)
	x.Newest = x.Newest.UTC()
	x.Measured = maps.Clone(x.Measured)
	maps.DeleteFunc(x.Measured, func(_ string, v float64) bool { return math.IsNaN(v) || math.IsInf(v, 0) }) // JSON has no words for them
	x.Text = strings.ToValidUTF8(x.Text[:min(len(x.Text), maxExamination)], "")
	return x, err
}

// SiteParts are the service at one site, as failover sees it.
type SiteParts struct {
	// Fencer stops the service at this site from accepting writes.
	Fencer failover.Fencer

	// Promoter makes the service at this site accept writes.
	Promoter failover.Promoter

	// Private probes ask the service by an address of the site itself,
	// Public ones by the name clients use.
	Private []failover.Probe
	Public  []failover.Probe
}
