package holdfast_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"
	"time"

	"filippo.io/age"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/files"
	"github.com/holdfast-go/holdfast/dr"
	"github.com/holdfast-go/holdfast/failover"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/local"
)

// The whole story: protect a directory, lose the primary site, fail over, and
// find everything at the standby. Two directories play the sites.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "holdfast")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := func(name string) string { return filepath.Join(dir, name) }

	// Something worth protecting, and a key to protect it with. The private
	// key is kept where it survives the primary site.
	key, err := age.GenerateX25519Identity()
	if err != nil {
		log.Fatal(err)
	}
	os.WriteFile(path("standby.key"), []byte(key.String()+"\n"), 0o600)
	os.Mkdir(path("orders"), 0o755)
	os.WriteFile(path("orders/1"), []byte("3 apples"), 0o644)

	// What is protected, where to, and how well. As YAML: dr.Load.
	config := dr.Config{
		Name: "shop",
		Sites: dr.Sites{
			Primary: dr.Site{Region: "local-a", Bucket: "file://" + path("a")},
			Standby: dr.Site{Region: "local-b", Bucket: "file://" + path("b")},
			Witness: &dr.Site{Region: "local-w", Bucket: "file://" + path("w")},
		},
		Workloads: []dr.Workload{{
			Name: "orders", Type: "files", Source: path("orders"), RestoreTo: path("standby-orders"),
			Every: dr.Duration(5 * time.Minute), Retention: dr.KeepFor(dr.Duration(30 * 24 * time.Hour)),
			RTOClass: dr.RTODataService, RPOClass: dr.RPOCritical,
		}},
		Failover: dr.Failover{Settle: dr.Duration(10 * time.Millisecond)}, // nothing here happens after it returned
		Recipients: []dr.Recipient{{
			Name: "standby", Key: key.Recipient().String(), Home: dr.AtStandby,
			Identity: dr.Secret("file:" + path("standby.key")),
		}},
	}

	// What the names in it stand for in this program.
	primary, standby := &shop{running: true}, &shop{}
	planner, err := dr.New(config, dr.Parts{
		Stores: map[string]dr.StoreOpener{
			"file": func(ctx context.Context, s dr.Site) (provider.BlobStore, error) {
				return local.NewBlobStore(local.Config{Dir: strings.TrimPrefix(s.Bucket, "file://"), Create: true})
			},
		},
		Targets: map[string]dr.TargetOpener{
			"files": func(ctx context.Context, w dr.Workload) (backup.Target, error) {
				return files.New(files.Config{Root: w.Source})
			},
		},
		Primary: dr.SiteParts{Fencer: primary, Promoter: primary, Private: []failover.Probe{primary}},
		Standby: dr.SiteParts{Fencer: standby, Promoter: standby, Private: []failover.Probe{standby}},
	})
	if err != nil {
		log.Fatal(err)
	}

	// Back up and replicate whatever is due.
	for {
		plan, err := planner.Plan(ctx)
		if err != nil {
			log.Fatal(err)
		}
		if len(plan.Actions) == 0 {
			break
		}
		if _, err := planner.Run(ctx, plan); err != nil {
			log.Fatal(err)
		}
	}

	// The primary site is lost, with its data and its bucket.
	os.RemoveAll(path("orders"))
	os.RemoveAll(path("a"))

	plan, err := planner.FailoverPlan(ctx, failover.Failover, time.Now())
	if err != nil {
		log.Fatal(err)
	}
	result, err := planner.Failover(ctx, plan, nil)
	if err != nil {
		log.Fatal(err)
	}
	for _, s := range result.Steps {
		fmt.Println(s.Name, s.Status)
	}
	order, _ := os.ReadFile(path("standby-orders/1"))
	fmt.Printf("%s: %s; the standby serves: %t\n", result.Outcome, order, standby.running)
	// Output:
	// verify-standby done
	// fence done
	// restore done
	// start done
	// verify-private done
	// completed: 3 apples; the standby serves: true
}

// shop is the service at one site: how to stop it, start it and ask it. This
// is the part only you can write for a service of your own.
type shop struct{ running bool }

func (s *shop) Fence(ctx context.Context, epoch uint64) (failover.FenceEvidence, error) {
	s.running = false
	return s.Fenced(ctx)
}

func (s *shop) Fenced(context.Context) (failover.FenceEvidence, error) {
	return failover.FenceEvidence{Method: "stopped", Confirmed: !s.running}, nil
}

func (s *shop) Unfence(ctx context.Context, epoch uint64) error {
	s.running = true
	return nil
}

func (s *shop) Promote(ctx context.Context, epoch uint64) (failover.Evidence, error) {
	s.running = true
	return nil, nil
}

func (s *shop) Promoted(context.Context) (failover.Observation, error) {
	return failover.Observation{Done: s.running}, nil
}

func (s *shop) Probe(context.Context) (string, error) {
	if !s.running {
		return "", errors.New("it does not run")
	}
	return "it runs", nil
}

func (s *shop) String() string { return "shop" }
