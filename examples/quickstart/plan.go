package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/files"
	"github.com/holdfast-go/holdfast/backup/postgres"
	"github.com/holdfast-go/holdfast/dr"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/httpstore"
)

// drConfig says in one value what is protected, where to, and how well. Yours
// would be a YAML file; this one knows its ports only now. Its intervals are
// those of a real system: the story runs on shorter ones, to fit in a minute.
func (st *story) drConfig() (dr.Config, error) {
	id, err := st.identity()
	if err != nil {
		return dr.Config{}, err
	}
	at := func(site string) dr.Site {
		return dr.Site{
			Region: site, Bucket: "http://" + st.fleet.addr(storeProcess(site)),
			Secrets: map[string]dr.Secret{"token": dr.Secret("file:" + st.secret(storeProcess(site)))},
		}
	}
	witness := at(witnessSite)
	kind := "files"
	if st.postgres() {
		kind = "postgres"
	}
	return dr.Config{
		Name:  "quickstart",
		Sites: dr.Sites{Primary: at(primarySite), Standby: at(standbySite), Witness: &witness},
		Workloads: []dr.Workload{{
			Name: service, Type: kind, Source: st.source(), RestoreTo: st.data(standbySite),
			Mode: dr.Incremental, Every: durationOf("5m"), Retention: dr.Retention{KeepLast: 3, Hourly: 24, Daily: 7},
			RPOClass: dr.RPOCritical, RTOClass: dr.RTODataService, Priority: 1,
		}},
		Recipients: []dr.Recipient{{
			Name: "standby", Key: id.Recipient().String(), Home: dr.AtStandby, Identity: dr.Secret("file:" + st.secret(identityKey)),
		}},
		Notify:   []string{"webhook:http://" + st.fleet.addr(pagerProcess) + "/"},
		Failover: dr.Failover{Automatic: true, HealthInterval: durationOf("10s"), FailureThreshold: threshold},
		DNS: &dr.DNS{
			Zone: zone, Name: serviceName, Primary: hostOf(primarySite), Standby: hostOf(standbySite), TTL: durationOf("30s"),
		},
	}, nil
}

// durationOf is a duration as a configuration writes it.
func durationOf(s string) (d dr.Duration) {
	if err := d.UnmarshalText([]byte(s)); err != nil {
		panic(err) // a literal of this file
	}
	return d
}

// parts are what the configuration names only by kind.
func (st *story) parts() dr.Parts {
	return dr.Parts{
		Stores: map[string]dr.StoreOpener{"http": func(ctx context.Context, s dr.Site) (provider.BlobStore, error) {
			token, err := s.Secrets["token"].Resolve(ctx)
			if err != nil {
				return nil, err
			}
			return httpstore.New(httpstore.Config{URL: s.Bucket, Token: token})
		}},
		Targets: map[string]dr.TargetOpener{"files": func(_ context.Context, w dr.Workload) (backup.Target, error) {
			return files.New(files.Config{Root: w.Source})
		}, "postgres": func(_ context.Context, w dr.Workload) (backup.Target, error) {
			return postgres.New(postgres.Config{Conn: w.Source})
		}},
		DNS: func(context.Context, dr.DNS) (provider.DNSProvider, error) { return st.openDNS() },
	}
}

// planner composes configuration and parts.
func (st *story) planner() (*dr.Planner, error) {
	c, err := st.drConfig()
	if err != nil {
		return nil, err
	}
	return dr.New(c, st.parts())
}

// openRepository opens the repository of a site as the Planner does: with the
// keys that are there.
func (st *story) openRepository(ctx context.Context, site string) (*backup.Repository, error) {
	p, err := st.planner()
	if err != nil {
		return nil, err
	}
	return p.Repository(ctx, map[string]string{primarySite: dr.PrimarySite, standbySite: dr.StandbySite}[site])
}

// checkConfig is stage 2.
func (st *story) checkConfig(ctx context.Context) error {
	c, err := st.drConfig()
	if err != nil {
		return err
	}
	// First what an untrue promise looks like.
	bad := c
	bad.Workloads = append([]dr.Workload(nil), c.Workloads...)
	bad.Workloads[0].Every = durationOf("1h")
	bad.Sites.Witness = nil
	err = bad.Validate()
	if err == nil {
		return errors.New("a configuration that cannot keep its promises was accepted")
	}
	n := 0
	for _, e := range flatten(err) {
		st.note("refused: %v", e)
		n++
	}
	if n < 2 {
		return fmt.Errorf("of two faults %d were named: %w", n, err)
	}
	p, err := dr.New(c, st.parts())
	if err != nil {
		return err
	}
	st.ok("valid: RPO %v, RTO %v, a point every %v, the key's home is the standby", dr.Duration(c.ObjectivesOf(c.Workloads[0]).RPO),
		dr.Duration(c.ObjectivesOf(c.Workloads[0]).RTO), c.Workloads[0].Every)
	if err := p.Check(ctx); err != nil {
		return err
	}
	st.ok("checked: every store takes, shows and returns an object, the witness honours conditional writes, the key opens, the zone answers")
	plan, err := p.Plan(ctx)
	if err != nil {
		return err
	}
	for _, a := range plan.Actions {
		st.ok("planned  %s", a)
	}
	for _, f := range plan.Forecasts {
		st.ok("forecast RPO %v: %s (%s)", f.RPO.Value, f.RPO.Sum, f.RPO.Basis)
	}
	if len(plan.Actions) == 0 {
		return errors.New("the Planner finds nothing to do, although nothing has been backed up yet")
	}
	st.note("in this story: a health check every %v, %d failures in a row; no waiting between backups", st.log.Settings.Interval, threshold)
	return nil
}

// flatten takes a joined error apart.
func flatten(err error) []error {
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		var all []error
		for _, e := range j.Unwrap() {
			all = append(all, flatten(e)...)
		}
		return all
	}
	return []error{err}
}
