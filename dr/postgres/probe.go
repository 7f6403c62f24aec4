package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	physical "github.com/holdfast-go/holdfast/backup/postgres"
	"github.com/holdfast-go/holdfast/failover"
)

// Archived asks a receiver, by its Status, whether it is connected to the
// server, and what it has acknowledged is no more than maxBytes and maxLag
// behind the server's WAL; a limit of 0 is not looked at. It is a signal of the
// server that needs no way to it but the receiver's own, which takes a server
// for dead that has said nothing for 50 s, or, if that is less, for five thirds
// of its wal_sender_timeout.
//
// What keeps WAL from being stored shows as lag, too. So where a failover begins
// by itself ([dr.SiteParts]), want no limits: a store that is away is no reason
// to leave a server. A log that is behind and a slot about to be lost are in the
// text.
func Archived(status func() physical.Status, maxBytes int64, maxLag time.Duration) failover.Probe {
	return archived{status, maxBytes, maxLag}
}

type archived struct {
	status   func() physical.Status
	maxBytes int64
	maxLag   time.Duration
}

// String says what is asked.
func (a archived) String() string {
	s := "WAL is received"
	if a.maxBytes > 0 {
		s += fmt.Sprintf(", at most %d bytes behind", a.maxBytes)
	}
	if a.maxLag > 0 {
		s += fmt.Sprintf(", at most %v behind", a.maxLag)
	}
	return s
}

func (a archived) Probe(ctx context.Context) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	s := a.status()
	text := fmt.Sprintf("archived to %v on timeline %d, %d bytes, %v behind", s.Acknowledged, s.Timeline, s.LagBytes, s.Lag.Round(time.Millisecond))
	for i, l := range s.Logs {
		if l.Err != nil {
			text += fmt.Sprintf("; log %d is at %v: %v", i+1, l.Durable, l.Err)
		}
	}
	if s.Slot != "" && s.Slot != "reserved" {
		text += "; the slot is " + s.Slot
	}
	switch {
	case !s.Connected && s.Err != nil:
		return text, fmt.Errorf("the receiver is not connected: %w", s.Err)
	case !s.Connected:
		return text, errors.New("the receiver is not connected")
	case a.maxBytes > 0 && s.LagBytes > a.maxBytes:
		return text, fmt.Errorf("WAL is archived %d bytes behind, more than %d", s.LagBytes, a.maxBytes)
	case a.maxLag > 0 && s.Lag > a.maxLag:
		return text, fmt.Errorf("WAL is archived %v behind, more than %v", s.Lag.Round(time.Millisecond), a.maxLag)
	}
	return text, nil
}
