package throttle

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/holdfast-go/holdfast/internal/throttle"
	"github.com/holdfast-go/holdfast/provider"
)

// Class is a kind of request that services count by itself.
type Class string

// The classes.
const (
	Read   Class = "read"
	Write  Class = "write"
	List   Class = "list"
	Delete Class = "delete"
)

// Limit is what requests of one class are held to.
type Limit struct {
	// PerSecond is how many are made in a second; a tenth of it may be made
	// at once. 0 means as many as the service takes.
	PerSecond float64

	// InFlight is how many wait for an answer at the same time. The body of a
	// Get that is open is none of them. 0 means any number.
	InFlight int
}

// Config says what is allowed. The zero value allows all that the service
// does not refuse.
type Config struct {
	Read, Write, List, Delete Limit

	// BytesUp and BytesDown are the bytes of bodies per second in all; 0
	// means no limit.
	BytesUp, BytesDown int64

	// Attempts is how many requests of a call may fail one after the other
	// before it fails, those of the store itself included; 0 means 5.
	Attempts int

	// Retries is how many failed requests of each class may be made again
	// before others have succeeded: ten of these give one back. 0 means 100.
	Retries int

	// Events hears what happens, if it is not nil. It is called by whoever
	// waits for the store, several at the same time, and must not take long.
	Events func(Event)
}

const (
	defaultAttempts = 5
	defaultRetries  = 100
	refund          = 0.1 // of a retry, by one success

	firstBackoff = 100 * time.Millisecond
	mostBackoff  = 20 * time.Second
)

// Throttle is what all share who use one service. It is safe for concurrent
// use; make one with [New].
type Throttle struct {
	c        Config
	classes  [4]*class
	up, down *throttle.Limiter
}

// New returns a Throttle of c.
func New(c Config) (*Throttle, error) {
	if err := c.complete(); err != nil {
		return nil, err
	}
	t := &Throttle{c: c, up: limiter(c.BytesUp), down: limiter(c.BytesDown)}
	for i, of := range c.limits() {
		t.classes[i] = newClass(of.class, of.limit, float64(c.Retries), c.Events)
	}
	return t, nil
}

// limiter is nil where there is no limit.
func limiter(bytesPerSecond int64) *throttle.Limiter {
	if bytesPerSecond == 0 {
		return nil
	}
	return throttle.New(bytesPerSecond)
}

type classLimit struct {
	class Class
	field string
	limit Limit
}

func (c *Config) limits() [4]classLimit {
	return [4]classLimit{{Read, "Read", c.Read}, {Write, "Write", c.Write}, {List, "List", c.List}, {Delete, "Delete", c.Delete}}
}

func (t *Throttle) class(of Class) *class {
	for _, c := range t.classes {
		if c.name == of {
			return c
		}
	}
	return nil
}

// complete validates a Config and fills in what is zero.
func (c *Config) complete() error {
	var errs []error
	fault := func(field, format string, args ...any) {
		errs = append(errs, fmt.Errorf("throttle: Config.%s: %s", field, fmt.Sprintf(format, args...)))
	}
	for _, of := range c.limits() {
		if p := of.limit.PerSecond; p < 0 || math.IsNaN(p) || math.IsInf(p, 0) {
			fault(of.field+".PerSecond", "%v, want a number of requests; 0 means no limit", p)
		}
		if n := of.limit.InFlight; n < 0 {
			fault(of.field+".InFlight", "%d, want a number of requests; 0 means no limit", n)
		}
	}
	if c.BytesUp < 0 {
		fault("BytesUp", "%d, want bytes per second; 0 means no limit", c.BytesUp)
	}
	if c.BytesDown < 0 {
		fault("BytesDown", "%d, want bytes per second; 0 means no limit", c.BytesDown)
	}
	if c.Attempts == 0 {
		c.Attempts = defaultAttempts
	}
	if c.Attempts < 1 || c.Attempts > 100 {
		fault("Attempts", "%d, want 1 to 100", c.Attempts)
	}
	if c.Retries == 0 {
		c.Retries = defaultRetries
	}
	if c.Retries < 1 {
		fault("Retries", "%d, want 1 or more; Attempts of 1 makes nothing again", c.Retries)
	}
	return errors.Join(errs...)
}

// Store returns s behind t. [provider.As] finds it a [provider.Locker], a
// [provider.Versioner], a [provider.Warmer] and a [provider.Tagger] if s is one,
// and these powers are under the limits like the rest. What else s can do goes past t.
func (t *Throttle) Store(s provider.BlobStore) provider.BlobStore { return &store{t, s} }
