package dr

import (
	"github.com/holdfast-go/holdfast/backup"
	"testing/synctest"

	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write golden files")

// golden compares got with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := "testdata/" + name
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(strings.ReplaceAll(string(want), "\r\n", "\n"), got); d != "" {
		t.Errorf("%s (-want +got):\n%s", path, d)
	}
}

func loadFile(t testing.TB, name string) Config {
	t.Helper()
	f, err := os.Open("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	c, err := Load(f)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// The classic configuration promises 15 minutes and backs up by the hour. The
// golden file is exactly what the user reads.
func TestClassicSampleContradictsItself(t *testing.T) {
	err := loadFile(t, "classic.yaml").Validate()
	if err == nil {
		t.Fatal("the classic sample was accepted")
	}
	golden(t, "classic.golden", err.Error()+"\n")
}

func TestSampleValidates(t *testing.T) {
	for _, name := range []string{"sample.yaml", "local.yaml"} {
		if err := loadFile(t, name).Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Every way to spoil the good sample gives a fault on the right field, and no
// other fault.
func TestValidateNamesTheField(t *testing.T) {
	tests := []struct {
		spoil func(*Config)
		want  string // field: part of the problem
	}{
		{func(c *Config) { c.Name = "" }, `name: "" cannot be used`},
		{func(c *Config) { c.Name = "a/b" }, `name: "a/b" cannot`},
		{func(c *Config) { c.Sites.Standby.Region = "eu-central-1" }, "sites.standby.region: is \"eu-central-1\", as is sites.primary.region"},
		{func(c *Config) { c.Sites.Witness.Region = "eu-west-1" }, "sites.witness.region: is \"eu-west-1\", as is sites.standby.region"},
		{func(c *Config) { c.Sites.Primary.Region = "eu-centrall-1" }, "sites.primary.region: \"eu-centrall-1\" is no region"},
		{func(c *Config) { c.Sites.Primary.Region = "" }, "sites.primary.region: is not set"},
		{func(c *Config) { c.Sites.Standby.Bucket = c.Sites.Primary.Bucket }, "sites.standby.bucket: is the same place as sites.primary.bucket"},
		{func(c *Config) { c.Sites.Standby.Bucket = c.Sites.Primary.Bucket + "/sub" }, "sites.standby.bucket: is the same place"},
		{func(c *Config) { c.Sites.Primary.Bucket = "" }, "sites.primary.bucket: is not set"},
		{func(c *Config) { c.Sites.Primary.Bucket = "backups" }, "sites.primary.bucket: is not a URL"},
		{func(c *Config) { c.Sites.Primary.Bucket = "https://u:hunter2@host/x" }, "sites.primary.bucket: holds a password"},
		{func(c *Config) { c.Sites.Primary.Options = map[string]string{"secret_token": "hunter2"} }, "sites.primary.options.secret_token: looks like a secret"},
		{func(c *Config) { c.Sites.Primary.Secrets = map[string]Secret{"token": "hunter2"} }, "sites.primary.secrets.token: is not a reference"},
		{func(c *Config) { c.Sites.Standby.Limits = &Limits{} }, "sites.standby.limits: sets no limit"},
		{func(c *Config) { c.Sites.Standby.Limits = &Limits{Reads: -1} }, "sites.standby.limits.reads: is -1"},
		{func(c *Config) { c.Sites.Witness.Limits = &Limits{InFlight: -1} }, "sites.witness.limits.in_flight: is -1"},
		{func(c *Config) { c.Sites.Standby.Limits = &Limits{UploadMB: math.NaN()} }, "sites.standby.limits.upload_mb: is NaN"},
		{func(c *Config) { c.Sites.Standby.Limits = &Limits{DownloadMB: 1e-9} }, "sites.standby.limits.download_mb: is 1e-09"},
		{func(c *Config) { c.Prune = Prune{Every: Duration(Day), Off: true} }, "prune.every: is set, but prune.off is true"},
		{func(c *Config) { c.Prune.Every = Duration(1) }, "prune.every: 1ns is shorter than a minute"},
		{func(c *Config) { c.Attest = Attest{Every: Duration(Day), Off: true} }, "attest.every: is set, but attest.off is true"},
		{func(c *Config) { c.Attest.Every = Duration(1) }, "attest.every: 1ns is shorter than a minute"},
		{func(c *Config) { c.Sites.Primary.Lock = &Lock{} }, "sites.primary.lock.keep: is not set"},
		{func(c *Config) {
			c.Sites.Witness = &Site{Region: "local-w", Bucket: "mem://w/", Lock: &Lock{Keep: Duration(Day)}}
		}, "sites.witness.lock: locks what is replaced"},
		{func(c *Config) { c.Sites.Primary.Lock = &Lock{Mode: "forever", Keep: Duration(Day)} }, "sites.primary.lock.mode: \"forever\" is neither"},
		{func(c *Config) { c.Sites.Standby.Lock = &Lock{Keep: Duration(time.Minute)} }, "sites.standby.lock.ahead: 30s is shorter than 8m"},
		{func(c *Config) { c.Sites.Standby.Lock = &Lock{Keep: Duration(Day), ExtendEvery: Duration(Day)} }, "sites.standby.lock.extend_every: 24h is more than a quarter of ahead, 12h"},
		{func(c *Config) { c.Sites.Standby.Lock = &Lock{Keep: Duration(Day), ExtendEvery: Duration(1)} }, "sites.standby.lock.extend_every: 1ns is shorter than a minute"},
		{func(c *Config) {
			c.Sites.Standby.Lock = &Lock{Keep: Duration(Day), ExtendEvery: Duration(time.Hour), ExtendOff: true}
		}, "sites.standby.lock.extend_every: is set, but extend_off is true"},
		{func(c *Config) { c.Sites.Standby.Lock = &Lock{Keep: Duration(30 * Day), Raw: Duration(Day)} }, "sites.standby.lock.raw: 24h is less than two intervals of prune"},
		{func(c *Config) { c.CustomRegions = []string{"A B"} }, "custom_regions[0]: \"A B\" cannot"},
		{func(c *Config) { c.Workloads = nil }, "targets: nothing is protected"},
		{func(c *Config) { c.Workloads[1].Name = "orders" }, "targets[1].name: \"orders\" is also the name of targets[0]"},
		{func(c *Config) { c.Workloads[1].Name = "Uploads!" }, "targets[1].name: \"Uploads!\" cannot"},
		{func(c *Config) { c.Workloads[1].Type = "" }, "targets[1].type: is not set"},
		{func(c *Config) { c.Workloads[1].Source = "" }, "targets[1].source: is not set"},
		{func(c *Config) { c.Workloads[1].Source = "postgres://u:hunter2@db/x" }, "targets[1].source: holds a password"},
		{func(c *Config) { c.Workloads[1].Source = "/var/lib/shop/orders/2026" }, "targets[1].source: overlaps with targets[0].source"},
		{func(c *Config) { c.Workloads[1].Source = "/var/lib/shop/orders/../orders/" }, "targets[1].source: overlaps with targets[0].source"},
		{func(c *Config) { c.Sites.Primary.Bucket = "file:///var/lib/shop/uploads/dr" }, "targets[1].source: contains sites.primary.bucket"},
		{func(c *Config) { c.Workloads[1].Source = "s3://shop-dr-ireland/holdfast/x" }, "targets[1].source: lies inside sites.standby.bucket"},
		{func(c *Config) { c.Workloads[1].RestoreTo = "/var/lib/shop/uploads/old" }, "targets[1].restore_to: overlaps with the source"},
		{func(c *Config) { c.Workloads[1].Mode = "partial" }, "targets[1].mode: \"partial\" is none of"},
		{func(c *Config) { c.Workloads[1].Every = 0 }, "targets[1].frequency: there is no schedule"},
		{func(c *Config) { c.Workloads[1].Frequency = Hourly }, "targets[1].every: there is more than one schedule"},
		{func(c *Config) { c.Workloads[1].Every = Duration(1) }, "targets[1].every: 1ns is shorter than 10s"},
		{func(c *Config) { c.Workloads[2].Schedule = "61 * * * *" }, "targets[2].schedule: \"61 * * * *\" is not a cron expression"},
		{func(c *Config) { c.Workloads[2].Schedule = "0 0 30 2 *" }, "targets[2].schedule: \"0 0 30 2 *\" names a time that never comes"},
		{func(c *Config) { c.Workloads[2].TimeZone = "Mars/Olympus" }, "targets[2].time_zone: time zone \"Mars/Olympus\" is not known"},
		{func(c *Config) { c.Workloads[2].TimeZone = "Local" }, "targets[2].time_zone: time zone \"Local\""},
		{func(c *Config) { c.Workloads[2].Schedule, c.Workloads[2].Frequency = "", "fortnightly" }, "targets[2].frequency: \"fortnightly\" is none of"},
		{func(c *Config) { c.Workloads[1].Every = Duration(Day) }, "targets[1].every: cannot meet the RPO of 1h: 24h between points + 1m backup + 1m replication + 1m for one retry = 24h3m"},
		{func(c *Config) { c.Workloads[1].Expect.Backup = Duration(40 * 60e9) }, "targets[1].every: cannot meet the RPO of 1h: 30m between points + 40m backup"},
		{func(c *Config) { c.Workloads[1].RPOClass = "" }, "targets[1].rpo: there is no RPO"},
		{func(c *Config) { c.Workloads[1].RTOClass = "" }, "targets[1].rto: there is no RTO"},
		{func(c *Config) { c.Workloads[1].RPOClass = "vital" }, "targets[1].rpo_class: \"vital\" is none of"},
		{func(c *Config) { c.Workloads[1].RTOClass = "vital" }, "targets[1].rto_class: \"vital\" is none of"},
		{func(c *Config) { c.Objectives.RPO = Duration(Day / 2) }, "targets[2].rpo_class: archival allows 24h, but objectives.rpo promises 12h"},
		{func(c *Config) { c.Objectives.RTO = Duration(2 * 3600e9) }, "targets[2].rto_class: non-critical allows 4h, but objectives.rto promises 2h"},
		{func(c *Config) { c.Workloads[1].Expect.Restore = Duration(2 * 3600e9) }, "targets[1].rto_class: 1h cannot be met: 2h to restore + 15s to settle + 1m for clients to follow DNS = 2h1m15s"},
		{func(c *Config) { c.Workloads[1].Retention = Retention{} }, "targets[1].retention: policy: no rule keeps anything"},
		{func(c *Config) { c.Workloads[2].Retention = KeepFor(Duration(6 * 3600e9)) }, "targets[2].retention: keeps 6h, but points come 12h apart"},
		{func(c *Config) { c.Workloads[1].Encryption = "none" }, "targets[1].encryption: is off: whoever can read a bucket"},
		{func(c *Config) { c.Workloads[1].Encryption, c.Workloads[1].AcceptUnprotected = "off", true }, "targets[1].encryption: is off, and on for others"},
		{func(c *Config) { c.Workloads[1].AcceptUnprotected = true }, "targets[1].accept_unprotected: is set, but encryption is on"},
		{func(c *Config) { protectNothing(c) }, "recipients: protect nothing: encryption is off"},
		{func(c *Config) { c.Workloads[1].Encryption = "rot13" }, "targets[1].encryption: \"rot13\" is not offered"},
		{func(c *Config) { c.Workloads[1].Compression = "gzip" }, "targets[1].compression: \"gzip\" is not offered; leave it out for zstd"},
		{func(c *Config) { c.Workloads[1].Priority = 5 }, "targets[1].priority: 5 is out of range"},
		{func(c *Config) { c.Workloads[1].Secrets = map[string]Secret{"p": "env:"} }, "targets[1].secrets.p: is not a reference"},
		{func(c *Config) { c.Recipients = nil }, "recipients: no recipient is usable with the primary region gone"},
		{func(c *Config) { c.Recipients = c.Recipients[:1] }, "recipients: no recipient is usable with the primary region gone"},
		{func(c *Config) { c.Recipients[1].Home = "" }, "recipients[1].home: \"\" is none of"},
		{func(c *Config) { c.Recipients[1].Name = "safe" }, "recipients[2].name: \"safe\" is also the name of recipients[1]"},
		{func(c *Config) { c.Recipients[1].Key = c.Recipients[2].Key }, "recipients[2].key: is the key of recipients[1] too"},
		{func(c *Config) { c.Recipients[1].Key = "AGE-SECRET-KEY-1HUNTER2" }, "recipients[1].key: is a private key"},
		{func(c *Config) { c.Recipients[1].Key = "ssh-rsa hunter2" }, "recipients[1].key: is not an age public key"},
		{func(c *Config) { c.Recipients[1].Identity = "AGE-SECRET-KEY-1HUNTER2" }, "recipients[1].identity: is not a reference"},
		{func(c *Config) { c.Notify[0] = "pigeon:post" }, "notify[0]: channel: kind \"pigeon\" is none of"},
		{func(c *Config) { c.Failover.Mode = "maybe" }, "failover.mode: \"maybe\" is none of"},
		{func(c *Config) { c.Failover.Automatic = true }, "failover.automatic: is true, but failover.mode is \"assisted\""},
		{func(c *Config) { c.Failover.Mode = "automatic"; c.Sites.Witness = nil }, "failover.mode: automatic failover without a witness"},
		{func(c *Config) { c.Failover.Mode = "automatic"; c.Failover.FailureThreshold = 1 }, "failover.failure_threshold: one lost probe"},
		{func(c *Config) { c.Failover.Mode = "automatic"; c.Failover.HealthInterval = Duration(600e9) }, "targets[0].rto_class: 30m cannot be met: 30m to notice the fault + 15s to settle + 1m for clients"},
		{func(c *Config) { c.Failover.HealthInterval = Duration(1e6) }, "failover.health_interval: 1ms is shorter"},
		{func(c *Config) { c.Failover.FailureThreshold = -1 }, "failover.failure_threshold: -1 is out of range"},
		{func(c *Config) { c.Failover.LeaseTTL = Duration(1e9) }, "failover.lease_ttl: 1s is shorter"},
		{func(c *Config) { c.Failover.Settle = Duration(-1e9) }, "failover.settle: -1s is negative"},
		{func(c *Config) { c.Failover.Budget = Duration(-1e9) }, "failover.budget: -1s is negative"},
		{func(c *Config) { c.Failover.Profile = "chaos" }, "failover.profile: \"chaos\" is none of"},
		{func(c *Config) { c.DNS.TTL = Duration(300e9) }, "dns.ttl: 5m uses up the failover budget of 5m"},
		{func(c *Config) { c.DNS.TTL = Duration(15e8) }, "dns.ttl: 1.5s is not a number of whole seconds"},
		{func(c *Config) { c.DNS.Zone = "" }, "dns.zone: is not set"},
		{func(c *Config) { c.DNS.Name = "" }, "dns.name: is not set"},
		{func(c *Config) { c.DNS.Name = "shop.example.org" }, "dns.name: \"shop.example.org\" is not in the zone"},
		{func(c *Config) { c.DNS.Name = "badexample.com" }, "dns.name: \"badexample.com\" is not in the zone"},
		{func(c *Config) { c.DNS.Standby = "2001:db8::1" }, "dns.standby: needs a record of type AAAA"},
		{func(c *Config) { c.DNS.Standby = c.DNS.Primary }, "dns.standby: is the address of the primary"},
		{func(c *Config) { c.DNS.Standby = "300.1.1.1" }, "dns.standby: \"300.1.1.1\" is neither"},
		{func(c *Config) { c.DNS.Primary = "" }, "dns.primary: is not set"},
		{func(c *Config) {
			c.DNS.Name, c.DNS.Primary, c.DNS.Standby = "example.com", "a.example.net", "b.example.net"
		}, "dns.primary: a host name cannot stand at the top"},
		{func(c *Config) { c.Drill.Every = Duration(60 * Day) }, "drill.every: a drill every 60d cannot keep"},
		{func(c *Config) { c.Drill.Scratch = "" }, "drill.scratch: is not set"},
		{func(c *Config) { c.Drill.Scratch = "/var/lib/shop" }, "drill.scratch: overlaps with targets[0].source"},
	}
	for _, test := range tests {
		t.Run(test.want[:min(40, len(test.want))], func(t *testing.T) {
			c := loadFile(t, "sample.yaml")
			test.spoil(&c)
			err := c.Validate()
			all := Faults(err)
			if len(all) == 0 {
				t.Fatalf("accepted, want %s", test.want)
			}
			if !slices.ContainsFunc(all, func(f *Fault) bool { return strings.HasPrefix(f.Error(), test.want) }) {
				t.Errorf("faults:\n%v\nwant one beginning %s", err, test.want)
			}
			// What the change touches may show in several places of one
			// kind, but nothing unrelated.
			for _, f := range all {
				if f.Fix == "" || f.Problem == "" || f.Field == "" {
					t.Errorf("incomplete fault %#v", f)
				}
				if root(f.Field) != root(test.want) {
					t.Errorf("unrelated fault %v", f)
				}
			}
			if strings.Contains(strings.ToLower(err.Error()), "hunter2") {
				t.Errorf("a secret shows: %v", err)
			}
		})
	}
}

func root(field string) string {
	i := strings.IndexAny(field, ".[:")
	if i < 0 {
		return field
	}
	return field[:i]
}

// All faults come at once.
func TestValidateReportsEverything(t *testing.T) {
	c := loadFile(t, "sample.yaml")
	c.Name, c.DNS.Zone, c.Workloads[0].Type, c.Notify[0] = "", "", "", "x"
	if n := len(Faults(c.Validate())); n != 4 {
		t.Errorf("%d faults, want 4: %v", n, c.Validate())
	}
	wrapped := fmt.Errorf("load: %w", errors.Join(c.Validate(), errors.New("other")))
	if n := len(Faults(wrapped)); n != 4 {
		t.Errorf("Faults of a wrapped error: %d, want 4", n)
	}
}

func TestObjectivesOf(t *testing.T) {
	c := Config{Objectives: Objectives{RPO: Duration(Day), RTO: Duration(8 * 3600e9)}}
	for _, test := range []struct {
		w        Workload
		rto, rpo string
	}{
		{Workload{}, "8h", "24h"},
		{Workload{RTOClass: RTOCritical, RPOClass: RPOCritical}, "1h", "15m"},
		{Workload{RTOClass: RTONonCritical, RPOClass: RPOStandard}, "4h", "1h"},
		{Workload{RTOClass: RTODataService, RPOClass: RPOArchival}, "30m", "24h"},
		{Workload{RTOClass: RTOCritical, RTO: Duration(5e9), RPOClass: RPOCritical, RPO: Duration(7 * Day)}, "5s", "7d"},
	} {
		o := c.ObjectivesOf(test.w)
		if o.RTO.String() != test.rto || o.RPO.String() != test.rpo {
			t.Errorf("%+v: RTO %v RPO %v, want %s %s", test.w, o.RTO, o.RPO, test.rto, test.rpo)
		}
	}
}

func protectNothing(c *Config) {
	for i := range c.Workloads {
		c.Workloads[i].Encryption, c.Workloads[i].AcceptUnprotected = "off", true
	}
}

// Who says it twice, for everything, has it.
func TestEncryptionOff(t *testing.T) {
	c := loadFile(t, "sample.yaml")
	protectNothing(&c)
	c.Recipients = nil
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	f := newFixture(t)
	protectNothing(&f.config)
	f.config.Recipients = nil
	synctest.Test(t, func(t *testing.T) {
		p := f.planner(t)
		f.catchUp(t, p)
		if err := p.Check(t.Context()); err != nil {
			t.Error(err)
		}
		if _, err := p.Restore(t.Context(), StandbySite, "orders", "", backup.Destination{Location: "mem-s:/x"}); err != nil {
			t.Error(err)
		}
		if got := f.places.at("mem-s:/x"); got["one"] != "first ok" {
			t.Errorf("restored %v", got)
		}
	})
}
