package roles_test

import (
	"fmt"
	"log"
	"time"

	"github.com/holdfast-go/holdfast/backup/postgres/roles"
	"github.com/holdfast-go/holdfast/failover"
)

// A switchover from db1 to db2: what the steps of the plan do. The position
// where db1 stopped is compared with what db2 has replayed, so nothing is lost.
func Example() {
	old, err := roles.New(roles.Config{Conn: "host=db1 user=holdfast dbname=postgres passfile=/etc/holdfast/pgpass"})
	if err != nil {
		log.Fatal(err)
	}
	next, err := roles.New(roles.Config{Conn: "host=db2 user=holdfast dbname=postgres passfile=/etc/holdfast/pgpass"})
	if err != nil {
		log.Fatal(err)
	}
	actions := map[string]failover.Action{
		"verify-standby": failover.ProbeAction(time.Second, next.Streaming(time.Minute), next.Standby(64<<20)),
		"quiesce":        old.Quiesce(),
		"final-sync":     next.CatchUp("quiesce"),
		"check-position": failover.CheckPosition("quiesce", "final-sync"),
		"start":          failover.PromoteAction(next),
		"verify-private": failover.ProbeAction(time.Second, next.Writable()),
	}
	plan, err := failover.NewPlan(failover.PlanConfig{
		Kind: failover.Switchover, Service: "db", From: "db1", To: "db2", Created: time.Date(2026, 11, 30, 8, 0, 0, 0, time.UTC),
	})
	if err != nil {
		log.Fatal(err)
	}
	for _, step := range plan.Steps {
		if actions[step.Action] != nil {
			fmt.Println(step.Name)
		}
	}
	// Output:
	// verify-standby
	// quiesce
	// final-sync
	// check-position
	// start
	// verify-private
}
