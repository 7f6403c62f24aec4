package dr_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"

	"filippo.io/age"

	"github.com/holdfast-go/holdfast/dr"
)

// A directory is protected: one plan says what is due, running it does that,
// and a drill proves the point at the standby.
func Example() {
	dir, err := os.MkdirTemp("", "holdfast")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	id, err := age.GenerateX25519Identity()
	if err != nil {
		log.Fatal(err)
	}
	for path, content := range map[string]string{"site/index": "hello", "standby.key": id.String()} {
		path = filepath.Join(dir, path)
		os.MkdirAll(filepath.Dir(path), 0o700)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			log.Fatal(err)
		}
	}
	config, err := dr.Load(strings.NewReader(strings.NewReplacer("DIR", filepath.ToSlash(dir), "KEY", id.Recipient().String()).Replace(`
name: example
sites:
  primary: {region: local-a, bucket: "file://DIR/a"}
  standby: {region: local-b, bucket: "file://DIR/b"}
targets:
  - {name: site, type: files, source: DIR/site, every: 5m, retention: 30d, rpo: 15m, rto: 1h}
recipients:
  - {name: standby, key: KEY, home: standby, identity: "file:DIR/standby.key"}
drill: {scratch: DIR/scratch}
`)))
	if err != nil {
		log.Fatal(err)
	}
	planner, err := dr.New(config, localParts())
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	plan, err := planner.Plan(ctx)
	if err != nil {
		log.Fatal(err)
	}
	for _, a := range plan.Actions {
		fmt.Println(strings.TrimSpace(string(a.Kind) + " " + a.Workload))
	}
	if _, err := planner.Run(ctx, plan); err != nil {
		log.Fatal(err)
	}
	proof, err := planner.Drill(ctx, "site")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("proven:", proof.Proves())
	// Output:
	// init
	// backup site
	// replicate
	// proven: true
}

// A configuration that cannot keep its promises is refused with the
// arithmetic.
func ExampleConfig_Validate() {
	config := dr.Config{Workloads: []dr.Workload{{
		Name: "db", Type: "files", Source: "/srv/db", Frequency: dr.Hourly,
		Retention: dr.KeepFor(dr.Duration(30 * dr.Day)), RPOClass: dr.RPOCritical, RTOClass: dr.RTOCritical,
	}}}
	for _, f := range dr.Faults(config.Validate()) {
		if strings.HasPrefix(f.Field, "targets") {
			fmt.Println(f)
		}
	}
	// Output:
	// targets[0].frequency: cannot meet the RPO of 15m: 1h between points + 1m backup + 1m replication + 1m for one retry = 1h3m; set every: 10m or less, or loosen the RPO of this target
}
