package dr

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/dr/notify"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/throttle"
)

// ErrStale: the world is not the one the plan was made from. Plan again.
var ErrStale = errors.New("the plan is stale")

// ErrBlocked: something may be due that cannot be done now. The text says why.
var ErrBlocked = errors.New("blocked")

// A Planner runs one configuration. It is safe for concurrent use. One
// workload is backed up at most once at a time, and one replication runs at a
// time; who comes second waits.
type Planner struct {
	config   Config
	parts    Parts
	log      *slog.Logger
	notifier notify.Notifier
	limits   map[string]*throttle.Throttle // by site, of those that have some

	mu     sync.Mutex // guards what follows; never held during I/O
	stores map[string]provider.BlobStore
	seen   string                // the site in charge when the lease was last read
	held   map[pointAt]time.Time // as askLocks last found; never changed

	events sync.Mutex // serializes Parts.Events
	busy   locks
}

// New validates c and finds every part it needs. It does no I/O. The error
// joins a [*Fault] for everything that is wrong or missing. What only
// failover needs may be missing; [Plan.Readiness] and [Planner.FailoverPlan]
// then say so.
func New(c Config, parts Parts) (*Planner, error) {
	var f faults
	if err := c.Validate(); err != nil {
		f = append(f, err)
	}
	for _, s := range c.sites() {
		u, err := bucketURL(s.Bucket)
		if err != nil {
			continue // Validate said so
		}
		if parts.Stores[strings.ToLower(u.Scheme)] == nil {
			f.add(s.field+".bucket", fmt.Sprintf("there is no opener for %q", u.Scheme),
				fmt.Sprintf("put one into Parts.Stores; there are: %s", orNone(sortedKeys(parts.Stores))))
		}
	}
	for i, w := range c.Workloads {
		if w.Type != "" && parts.Targets[w.Type] == nil {
			f.add(at("targets", i)+".type", fmt.Sprintf("%q is not built in here", w.Type),
				fmt.Sprintf("put an opener into Parts.Targets, or use one of: %s", orNone(sortedKeys(parts.Targets))))
		}
	}
	if c.DNS != nil && parts.DNS == nil {
		f.add("dns", "there is no opener for the zone", "put one into Parts.DNS")
	}
	if c.TrafficSwitch != nil && parts.TrafficSwitch == nil {
		f.add("traffic_switch", "there is no opener for it", "put one into Parts.TrafficSwitch")
	}
	limits, err := c.throttles()
	if err != nil && len(f) == 0 {
		return nil, err
	}
	notifier, err := openNotifier(c, parts)
	if err != nil {
		f.add("notify", strings.ReplaceAll(err.Error(), "\n", "; "), "fill in Parts.Notify")
	}
	if err := f.err(); err != nil {
		return nil, err
	}
	log := parts.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Planner{
		config: c, parts: parts, log: log.With("config", c.Name), notifier: notifier, limits: limits,
		stores: map[string]provider.BlobStore{}, busy: locks{held: map[string]chan struct{}{}},
	}, nil
}

func openNotifier(c Config, parts Parts) (notify.Notifier, error) {
	var channels []notify.Channel
	for _, name := range c.Notify {
		ch, err := notify.Parse(name)
		if err != nil {
			continue // Validate said so
		}
		channels = append(channels, ch)
	}
	return notify.Open(parts.Notify, channels...)
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// Config returns the configuration.
func (p *Planner) Config() Config { return p.config }

// event tells whoever listens. Failures are logged as such.
func (p *Planner) event(e Event) {
	e.Time = time.Now().UTC()
	level, attrs := slog.LevelInfo, []any{"kind", e.Kind, "target", e.Workload, "point", e.Point}
	if e.Err != nil {
		level, attrs = slog.LevelWarn, append(attrs, "error", e.Err)
	}
	p.log.Log(context.Background(), level, e.Text, attrs...)
	if p.parts.Events == nil {
		return
	}
	p.events.Lock()
	defer p.events.Unlock()
	p.parts.Events(e)
}

// tell sends a message to the channels of the configuration. What cannot be
// delivered is an event, never an error of what it was about.
func (p *Planner) tell(ctx context.Context, m notify.Message) error {
	if len(p.config.Notify) == 0 {
		return nil
	}
	m.Key = p.config.Name + "/" + m.Key
	m.Title = p.config.Name + ": " + m.Title
	err := p.notifier.Notify(ctx, m)
	if err != nil {
		p.event(Event{Kind: EventRecord, Text: "a message could not be delivered", Err: err})
	}
	return err
}

// Locks serialize what must not run twice at once, by name. Waiting ends with
// the context.
type locks struct {
	mu   sync.Mutex
	held map[string]chan struct{}
}

func (l *locks) lock(ctx context.Context, name string) (unlock func(), err error) {
	for {
		l.mu.Lock()
		wait, taken := l.held[name]
		if !taken {
			mine := make(chan struct{})
			l.held[name] = mine
			l.mu.Unlock()
			return func() {
				l.mu.Lock()
				delete(l.held, name)
				l.mu.Unlock()
				close(mine)
			}, nil
		}
		l.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// target opens a workload as it lives at a place.
func (p *Planner) target(ctx context.Context, w Workload, place string) (backup.Target, error) {
	w.Source = place
	t, err := p.parts.Targets[w.Type](ctx, w)
	if err != nil {
		return nil, fmt.Errorf("open target %s: %w", w.Name, err)
	}
	return t, nil
}
