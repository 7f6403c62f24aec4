package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-go/holdfast/failover"
)

// watchPrimary starts the health checks of the primary and returns their
// verdicts. It looks from two places, each of which first makes sure that it
// is not itself cut off, and at two things: the service over HTTP and the
// store. The primary is lost only if everything says so, several times in a
// row. In this story both observers live in the orchestrator; let yours live
// where they fail apart from each other.
func (st *story) watchPrimary(ctx context.Context) <-chan failover.Verdict {
	signals := map[string]failover.Probe{
		"http": failover.HTTPProbe{
			URL: "http://" + st.fleet.addr(serviceProcess(primarySite)) + "/healthz", Client: httpClient,
			// Once the service is gone its port may be somebody else's.
			Contains: fmt.Sprintf(`"run":%q`, st.log.Run),
		},
		"store": st.storeAnswers(primarySite),
	}
	verdicts := make(chan failover.Verdict)
	c := failover.WatchConfig{
		Detector: failover.DetectorConfig{Quorum: 2, Fail: threshold},
		Observers: []failover.Observer{
			{Name: standbySite, Canary: st.storeAnswers(standbySite), Signals: signals},
			{Name: witnessSite, Canary: st.storeAnswers(witnessSite), Signals: signals},
		},
		Interval: st.log.Settings.Interval,
		Verdict: func(ctx context.Context, s failover.DetectorState, v failover.Verdict) failover.DetectorState {
			select {
			case verdicts <- v:
			case <-ctx.Done():
			}
			return s
		},
	}
	go func() {
		defer close(verdicts)
		if err := failover.Watch(ctx, c); ctx.Err() == nil {
			st.note("health checks: %v", err)
		}
	}()
	return verdicts
}

// awaitHealth reads verdicts until one is as wanted.
func (st *story) awaitHealth(ctx context.Context, wanted failover.Health) (failover.Verdict, error) {
	if st.verdicts == nil {
		st.verdicts = st.watchPrimary(ctx)
	}
	_, stop := st.wait(fmt.Sprintf("health check every %v, %d failures in a row", st.log.Settings.Interval, threshold))
	defer stop()
	for {
		select {
		case <-ctx.Done():
			return failover.Verdict{}, ctx.Err()
		case v, ok := <-st.verdicts:
			if !ok {
				return v, errors.New("the health checks ended")
			}
			if v.Changed {
				st.note("the primary is %s", v.Health)
			}
			if v.Health == wanted {
				return v, nil
			}
		}
	}
}

// healthy waits until the health checks see the primary work, so that what
// they say afterwards means something.
func (st *story) healthy(ctx context.Context) error {
	if _, alive := st.fleet.find(serviceProcess(primarySite)); !alive {
		return nil // a crashed orchestrator has killed it already
	}
	if _, err := st.awaitHealth(ctx, failover.Healthy); err != nil {
		return err
	}
	st.ok("healthy, says each of two observers: service and store of %s, every %v", primarySite, st.log.Settings.Interval)
	return nil
}

// detect waits for the verdict that the primary is lost.
func (st *story) detect(ctx context.Context) error {
	v, err := st.awaitHealth(ctx, failover.Unhealthy)
	if err != nil {
		return err
	}
	now := time.Now().UTC()
	st.ok("lost, say both observers by both signals, %d times in a row: %s after the fault", threshold, short(now.Sub(st.log.Facts.Fault)))
	return st.log.remember(func(f *facts) {
		f.FirstFailed, f.DetectedAt = v.Since.UTC(), now
		f.Detected = fmt.Sprintf("two observers, two signals, %d failures in a row", threshold)
	})
}
