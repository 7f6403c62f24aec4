package postgres

import (
	"context"
	"fmt"

	physical "github.com/holdfast-go/holdfast/backup/postgres"
	"github.com/holdfast-go/holdfast/dr"
)

// Receiver makes a receiver of the WAL of a workload of type "postgres", into
// the repositories of both sites. At is the site in charge, which says how to
// connect. Of c, Conn and Repositories are filled in; the first repository is
// that of the site in charge, and both have to be there, as the first run of a
// plan makes them. Run the receiver beside [dr.Planner.Serve], one for each
// cluster, and make another one after a failover.
//
// With c.Acknowledge at 1 commits of a synchronous cluster wait for one of the
// sites, with the default for both. Only what the other site has survives the
// loss of this one.
func Receiver(ctx context.Context, p *dr.Planner, workload, at string, c physical.ReceiverConfig) (*physical.Receiver, error) {
	w, ok := p.Config().Workload(workload)
	if !ok || w.Type != "postgres" {
		return nil, fmt.Errorf("receiver: there is no workload %q of type postgres", workload)
	}
	other := dr.StandbySite
	switch at {
	case dr.PrimarySite:
	case dr.StandbySite:
		w.Source, other = w.RestoreTo, dr.PrimarySite
	default:
		return nil, fmt.Errorf("receiver: %q is no site; want %s or %s", at, dr.PrimarySite, dr.StandbySite)
	}
	x, err := Config{}.cluster(w)
	if err != nil {
		return nil, fmt.Errorf("receiver: %w", err)
	}
	if c.Conn = x.target.Conn; c.Conn == "" {
		return nil, fmt.Errorf("receiver: options.standby_conn of %s is not set", workload)
	}
	c.Repositories = nil
	for _, site := range []string{at, other} {
		repo, err := p.Repository(ctx, site)
		if err != nil {
			return nil, fmt.Errorf("receiver: %w", err)
		}
		c.Repositories = append(c.Repositories, repo)
	}
	return physical.NewReceiver(c)
}
