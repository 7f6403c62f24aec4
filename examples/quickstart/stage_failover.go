package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/holdfast-go/holdfast/dr/notify"
	"github.com/holdfast-go/holdfast/failover"
)

// threshold is how many health checks in a row must fail.
const threshold = 3

// failover is stage 7: find out, decide, take over.
func (st *story) failover(ctx context.Context) error {
	if _, planned := st.log.Facts.Plans["failover"]; !planned {
		if err := st.detect(ctx); err != nil {
			return err
		}
	}
	actions, err := st.failoverActions()
	if err != nil {
		return err
	}
	conditions, err := st.conditions(ctx)
	if err != nil {
		return err
	}
	c := failover.Config{Actions: actions, Mode: failover.Automatic, Conditions: conditions}
	res, err := st.perform(ctx, "failover", c, func(id string) (failover.Plan, error) {
		if err := failover.Arm(conditions); err != nil {
			return failover.Plan{}, err
		}
		st.ok("automatic mode is armed: witness %s, fence with confirmation, test failover passed %s ago, lag %s below the RPO of %v",
			witnessSite, short(conditions.Now.Sub(conditions.LastProof)), short(conditions.Lag), conditions.RPO)
		return failover.NewPlan(failover.PlanConfig{
			Kind: failover.Failover, Service: service, From: primarySite, To: standbySite,
			ID: id, Created: time.Now(), Fault: st.log.Facts.FirstFailed,
			Budget: st.objectives().Failover, Settle: settle, Timeouts: st.timeouts(),
			Expected: fmt.Sprintf("what was written in the last %s", short(conditions.Lag)),
		})
	})
	if err != nil {
		return err
	}
	st.ok("run %s %s, lease epoch %d", res.Plan.ID, res.Outcome, res.Epoch)
	return nil
}

// conditions are the facts that automatic failover depends on.
func (st *story) conditions(ctx context.Context) (failover.Conditions, error) {
	repo, err := st.openRepository(ctx, standbySite)
	if err != nil {
		return failover.Conditions{}, err
	}
	p, err := newestPoint(ctx, repo)
	if err != nil {
		return failover.Conditions{}, err
	}
	now := time.Now()
	c := failover.Conditions{
		Now: now, Primary: primarySite, Standby: standbySite, Witness: witnessSite,
		FenceConfirms: true, SelfFencing: true, LagKnown: true, RPO: st.objectives().RPO,
		// What would be lost: everything between the newest point and the fault.
		Lag: st.log.Facts.Fault.Sub(p.Time),
	}
	if proof := st.log.Facts.Proof; proof != nil {
		c.LastProof = proof.At
	}
	return c, nil
}

func (st *story) failoverActions() (map[string]failover.Action, error) {
	from, err := st.site(primarySite)
	if err != nil {
		return nil, err
	}
	to, err := st.site(standbySite)
	if err != nil {
		return nil, err
	}
	into := st.restoredDir(standbySite, "failover")
	actions := map[string]failover.Action{
		"verify-standby": failover.ProbeAction(100*time.Millisecond, st.standbyReady(standbySite)),
		"fence":          failover.FenceAction(from),
		"restore":        restoration{st, standbySite, into},
		"start":          failover.PromoteAction(promotion{site: to, data: into, register: st.register}),
		"verify-private": failover.ProbeAction(50*time.Millisecond, serves(to)),
		"verify-public":  failover.ProbeAction(50*time.Millisecond, st.servesPublicly(standbySite)),
		"notify":         st.notification("failover"),
	}
	actions["traffic"], err = st.traffic()
	return actions, err
}

// traffic moves the name of the service from one site's host to the other's,
// by compare-and-swap, with owner and epoch in a TXT record beside it.
func (st *story) traffic() (failover.Action, error) {
	dns, err := st.openDNS()
	if err != nil {
		return nil, err
	}
	return failover.NewTraffic(failover.TrafficConfig{
		DNS: dns, Owner: "quickstart", Name: serviceName, Type: "CNAME", TTL: time.Second,
		Sites:   map[string][]string{primarySite: {hostOf(primarySite)}, standbySite: {hostOf(standbySite)}},
		Servers: []string{st.fleet.addr(dnsProcess)},
	})
}

// notification tells the pager. It is sent at least once; the key is the same
// every time.
func (st *story) notification(operation string) failover.Action {
	return failover.ActionFuncs{DoFunc: func(ctx context.Context, c failover.Call) (failover.Evidence, error) {
		ch, err := notify.Parse("webhook:http://" + st.fleet.addr(pagerProcess) + "/")
		if err != nil {
			return nil, err
		}
		n, err := notify.Open(notify.Config{}, ch)
		if err != nil {
			return nil, err
		}
		err = n.Notify(ctx, notify.Message{
			Title: fmt.Sprintf("%s of %s: %s -> %s", operation, c.Service, c.From, c.To), Severity: notify.Critical, Key: c.Token,
			Text:   "The service answers under its name again.",
			Fields: []notify.Field{{Name: "run", Value: c.Run}, {Name: "position", Value: c.Prior["restore"][failover.EvidencePosition]}},
		})
		if err != nil {
			return nil, err
		}
		var pages []page
		if err := readLines(filepath.Join(st.dir, "client", "pager.jsonl"), &pages); err != nil {
			return nil, err
		}
		if len(pages) == 0 {
			return nil, errors.New("the pager has received nothing")
		}
		return failover.Evidence{"words": fmt.Sprintf("received by the pager (%s)", ch)}, nil
	}}
}
