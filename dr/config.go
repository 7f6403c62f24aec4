package dr

import "github.com/holdfast-go/holdfast/failover"

// A Config says what is protected, where to, how well, and what happens when
// a site is lost. It holds no secret, only references to secrets. Read one
// with [Load] or [ParseConfig], or fill it in Go; [Config.Validate] judges
// both alike.
type Config struct {
	// Name identifies the configuration: it is part of the keys of journal,
	// lease and records, so two configurations may share a witness.
	// [a-z0-9-], required.
	Name string `yaml:"name" json:"name"`

	Sites Sites `yaml:"sites" json:"sites"`

	// CustomRegions declares region names that no cloud's table has. Names
	// that begin with "local-" need no declaration.
	CustomRegions []string `yaml:"custom_regions,omitempty" json:"custom_regions,omitempty"`

	// Objectives hold for every workload that states neither a class nor an
	// objective of its own.
	Objectives Objectives `yaml:"objectives,omitempty" json:"objectives,omitzero"`

	Workloads []Workload `yaml:"targets" json:"targets"`

	// Recipients can decrypt the repository. At least one must be usable
	// with the primary region gone.
	Recipients []Recipient `yaml:"recipients" json:"recipients"`

	// Notify names the channels that hear of failures and failovers, such as
	// "email:ops@example.com" or "slack:#dr-alerts".
	Notify []string `yaml:"notify,omitempty" json:"notify,omitempty"`

	Failover Failover `yaml:"failover,omitempty" json:"failover,omitzero"`

	// DNS is the name clients follow, TrafficSwitch a switch behind a name
	// that stays; not both. Without either failover moves no traffic.
	DNS           *DNS           `yaml:"dns,omitempty" json:"dns,omitempty"`
	TrafficSwitch *TrafficSwitch `yaml:"traffic_switch,omitempty" json:"traffic_switch,omitempty"`

	Drill Drill `yaml:"drill,omitempty" json:"drill,omitzero"`

	Prune Prune `yaml:"prune,omitempty" json:"prune,omitzero"`

	Attest Attest `yaml:"attest,omitempty" json:"attest,omitzero"`
}

// Sites are the places of a configuration.
type Sites struct {
	Primary Site `yaml:"primary" json:"primary"` // where the workloads run and the repository is written
	Standby Site `yaml:"standby" json:"standby"` // where every point is replicated to, and failover goes

	// Witness is a third place that holds lease and journal. Without it they
	// live at the standby, and automatic failover is refused.
	Witness *Site `yaml:"witness,omitempty" json:"witness,omitempty"`
}

// A Site is a region and a bucket in it.
type Site struct {
	Region string `yaml:"region" json:"region"`

	// Bucket is a URL whose scheme chooses the opener in [Parts.Stores]:
	// file:///srv/dr-a, s3://bucket/prefix, https://host/path.
	Bucket string `yaml:"bucket" json:"bucket"`

	// Options are handed to the opener; Secrets hold references only.
	Options map[string]string `yaml:"options,omitempty" json:"options,omitempty"`
	Secrets map[string]Secret `yaml:"secrets,omitempty" json:"secrets,omitempty"`

	// Limits leave room in the bucket, and on the way to it, for others. Nil
	// means no limits.
	Limits *Limits `yaml:"limits,omitempty" json:"limits,omitempty"`

	// Lock protects the repository of the site from whoever may delete. Nil
	// means no locks. Not for the witness, whose objects are replaced.
	Lock *Lock `yaml:"lock,omitempty" json:"lock,omitempty"`
}

// Limits are what backups, copies and restores together may ask of the bucket
// of a site. Zero means no limit. With any of
// them, less is asked when the service says that it is too much (see package
// provider/throttle). Lease, journal and records
// are not held up by them: a failover waits for no backup.
type Limits struct {
	// Requests a second.
	Reads   float64 `yaml:"reads,omitempty" json:"reads,omitzero"`
	Writes  float64 `yaml:"writes,omitempty" json:"writes,omitzero"`
	Lists   float64 `yaml:"lists,omitempty" json:"lists,omitzero"`
	Deletes float64 `yaml:"deletes,omitempty" json:"deletes,omitzero"`

	// InFlight is how many requests of each of the four kinds wait for an
	// answer at the same time.
	InFlight int `yaml:"in_flight,omitempty" json:"in_flight,omitzero"`

	// Megabytes (1,000,000 bytes) a second, to the bucket and from it.
	UploadMB   float64 `yaml:"upload_mb,omitempty" json:"upload_mb,omitzero"`
	DownloadMB float64 `yaml:"download_mb,omitempty" json:"download_mb,omitzero"`
}

// Objectives are promises: RTO, how long recovery may take, and RPO, how much
// of the past may be lost.
type Objectives struct {
	RTO Duration `yaml:"rto,omitempty" json:"rto,omitzero"`
	RPO Duration `yaml:"rpo,omitempty" json:"rpo,omitzero"`

	// Proven is how old the newest point that a drill has restored and
	// checked may be. 0 means 35 days.
	Proven Duration `yaml:"proven,omitempty" json:"proven,omitzero"`
}

// Mode says how much of a workload one backup reads. Every point is full
// whatever the mode; see package backup.
type Mode string

// The modes of a backup. Empty means Incremental.
const (
	Full         Mode = "full"         // read everything
	Incremental  Mode = "incremental"  // read what changed since the last point
	Differential Mode = "differential" // read what changed since the last full read
)

// Frequency is a named schedule.
type Frequency string

// The named schedules. Each is moved by a few minutes that depend on the
// workload's name, so that not everything starts at midnight.
const (
	Hourly  Frequency = "hourly"
	Daily   Frequency = "daily"   // 00:00
	Weekly  Frequency = "weekly"  // Sunday 00:00
	Monthly Frequency = "monthly" // the 1st, 00:00
)

// RTOClass is a class of recovery time.
type RTOClass string

// The classes of recovery time.
const (
	RTOCritical    RTOClass = "critical"     // 1 h
	RTONonCritical RTOClass = "non-critical" // 4 h
	RTODataService RTOClass = "data-service" // 30 min
)

// RPOClass is a class of data loss.
type RPOClass string

// The classes of data loss.
const (
	RPOCritical RPOClass = "critical" // 15 min
	RPOStandard RPOClass = "standard" // 1 h
	RPOArchival RPOClass = "archival" // 24 h
)

// A Workload is one thing to protect with its objectives and schedule.
type Workload struct {
	Name   string `yaml:"name" json:"name"`     // [a-z0-9-], unique
	Type   string `yaml:"type" json:"type"`     // chooses the opener in [Parts.Targets]: "files", "postgres" ...
	Source string `yaml:"source" json:"source"` // a path or URL, as the type defines it

	// Options are handed to the opener; Secrets hold references only.
	Options map[string]string `yaml:"options,omitempty" json:"options,omitempty"`
	Secrets map[string]Secret `yaml:"secrets,omitempty" json:"secrets,omitempty"`

	Mode Mode `yaml:"mode,omitempty" json:"mode,omitempty"`

	// Exactly one of these three says when to back up. Schedule is a cron
	// expression of five fields in TimeZone (an IANA name; empty means UTC).
	// Every is an interval since the last success, the form for an RPO of an
	// hour or less.
	Frequency Frequency `yaml:"frequency,omitempty" json:"frequency,omitempty"`
	Schedule  string    `yaml:"schedule,omitempty" json:"schedule,omitempty"`
	Every     Duration  `yaml:"every,omitempty" json:"every,omitzero"`
	TimeZone  string    `yaml:"time_zone,omitempty" json:"time_zone,omitempty"`

	Retention Retention `yaml:"retention" json:"retention"`

	// Encryption is on unless it is off, or none, for every workload and
	// AcceptUnprotected says of each that this is meant: they share one
	// repository. Its key is then stored beside it in the clear; see
	// [backup.Unprotected]. On means AES-256-GCM, whatever it is called.
	Encryption        string `yaml:"encryption,omitempty" json:"encryption,omitempty"` // "", "on", "aes-256", "aes-256-gcm"; "off", "none"
	AcceptUnprotected bool   `yaml:"accept_unprotected,omitempty" json:"accept_unprotected,omitempty"`

	// Compression is zstd, the default, or snappy: faster and larger, see
	// [backup.Compression]. Any other wish is refused by name.
	Compression string `yaml:"compression,omitempty" json:"compression,omitempty"` // "", "zstd", "snappy"

	// Priority orders recovery: 1 first, 4 last. 0 means 3.
	Priority int `yaml:"priority,omitempty" json:"priority,omitzero"`

	// The class gives the objective, the objective itself overrides it.
	RTOClass RTOClass `yaml:"rto_class,omitempty" json:"rto_class,omitempty"`
	RPOClass RPOClass `yaml:"rpo_class,omitempty" json:"rpo_class,omitempty"`
	RTO      Duration `yaml:"rto,omitempty" json:"rto,omitzero"`
	RPO      Duration `yaml:"rpo,omitempty" json:"rpo,omitzero"`

	// Expect says how long one backup and its replication take, until there
	// are measurements. 0 means one minute each.
	Expect Expect `yaml:"expect,omitempty" json:"expect,omitzero"`

	// RestoreTo is where failover restores the workload at the standby, as
	// the type defines it. Empty means that failover restores nothing for
	// it, and its RTO is not predicted.
	RestoreTo string `yaml:"restore_to,omitempty" json:"restore_to,omitempty"`
}

// Expect is an estimate for arithmetic before anything has been measured.
type Expect struct {
	Backup  Duration `yaml:"backup,omitempty" json:"backup,omitzero"`
	Arrival Duration `yaml:"arrival,omitempty" json:"arrival,omitzero"` // replication to the standby
	Restore Duration `yaml:"restore,omitempty" json:"restore,omitzero"`
}

// Home says where the private key of a recipient lives, and so whether it is
// there when the primary region is not.
type Home string

// The homes of a key.
const (
	AtPrimary Home = "primary" // lost with the primary region
	AtStandby Home = "standby"
	Offline   Home = "offline" // paper, a safe, a hardware token
)

// A Recipient is a public key that every point is sealed to.
type Recipient struct {
	Name string `yaml:"name" json:"name"`
	Key  string `yaml:"key" json:"key"` // an age public key: age1...
	Home Home   `yaml:"home" json:"home"`

	// Identity refers to the private key, where this process may use it: to
	// drill, to restore, to fail over. A host that only backs up has none.
	Identity Secret `yaml:"identity,omitempty" json:"identity,omitempty"`
}

// UsableWithoutPrimary reports whether the private key survives the loss of
// the primary region.
func (r Recipient) UsableWithoutPrimary() bool { return r.Home == AtStandby || r.Home == Offline }

// Failover says when and how the standby takes over. Its zero value is manual
// failover with the defaults below.
type Failover struct {
	// Automatic is the classic switch; it is the same as Mode Automatic.
	Automatic bool          `yaml:"automatic,omitempty" json:"automatic,omitempty"`
	Mode      failover.Mode `yaml:"mode,omitempty" json:"mode,omitempty"`

	HealthInterval   Duration `yaml:"health_interval,omitempty" json:"health_interval,omitzero"`     // of Serve; at least 1 s, 0 means 60 s
	FailureThreshold int      `yaml:"failure_threshold,omitempty" json:"failure_threshold,omitzero"` // failed probes in a row; 0 means 3, automatic needs 2

	// Profile names the order of the steps, serve-first or traffic-first;
	// empty means serve-first. See [failover.Profile].
	Profile failover.Profile `yaml:"profile,omitempty" json:"profile,omitempty"`

	// LeaseTTL is how long an orchestrator that says nothing stays in
	// charge of a run: at least 3 seconds, 0 means 30.
	LeaseTTL Duration `yaml:"lease_ttl,omitempty" json:"lease_ttl,omitzero"`

	// Settle is how long a call that was given up may still take effect in
	// a cloud; the run waits that long before it passes the point of no
	// return. It must not be less than that time is. 0 means 15 seconds.
	Settle Duration `yaml:"settle,omitempty" json:"settle,omitzero"`

	// Budget is the promise from the decision to verified traffic. 0 means
	// 5 minutes.
	Budget Duration `yaml:"budget,omitempty" json:"budget,omitzero"`
}

// DNS is the service name and its address at either site.
type DNS struct {
	Zone    string   `yaml:"zone" json:"zone"`       // example.com
	Name    string   `yaml:"name" json:"name"`       // db.example.com, inside Zone
	Primary string   `yaml:"primary" json:"primary"` // an IP address, or a host name for a CNAME
	Standby string   `yaml:"standby" json:"standby"` // of the same kind
	TTL     Duration `yaml:"ttl,omitempty" json:"ttl,omitzero"`

	// Servers are the authoritative servers that must serve a change, as
	// host:port. Empty means that they are looked up.
	Servers []string `yaml:"servers,omitempty" json:"servers,omitempty"`

	// AllowNotAtomic lets an automatic failover use a provider without
	// compare-and-swap (provider.NotAtomic). One that a person starts may.
	AllowNotAtomic bool `yaml:"allow_not_atomic,omitempty" json:"allow_not_atomic,omitempty"`

	// Options are handed to [Parts.DNS]; Secrets hold references only.
	Options map[string]string `yaml:"options,omitempty" json:"options,omitempty"`
	Secrets map[string]Secret `yaml:"secrets,omitempty" json:"secrets,omitempty"`
}

// TrafficSwitch is a [provider.TrafficSwitch], and what of it is open when
// either site is in charge.
type TrafficSwitch struct {
	Primary []string `yaml:"primary" json:"primary"` // sites (cells, regions, endpoints) of the switch
	Standby []string `yaml:"standby" json:"standby"`

	// Follow is how long clients take to follow a switch: health checks, the
	// TTL of what caches hold. 0 means 60 seconds.
	Follow Duration `yaml:"follow,omitempty" json:"follow,omitzero"`

	// AllowNotCompared lets an automatic failover use a service that compares
	// nothing (provider.TrafficTraits). One that a person starts may.
	AllowNotCompared bool `yaml:"allow_not_compared,omitempty" json:"allow_not_compared,omitempty"`

	// Options are handed to [Parts.TrafficSwitch]; Secrets hold references
	// only.
	Options map[string]string `yaml:"options,omitempty" json:"options,omitempty"`
	Secrets map[string]Secret `yaml:"secrets,omitempty" json:"secrets,omitempty"`
}

// Drill says how often recovery points are proven by restoring one.
type Drill struct {
	Every Duration `yaml:"every,omitempty" json:"every,omitzero"` // 0 means only on request

	// Scratch is where drills restore to, as the targets define places: a
	// drill uses Scratch/workload/point and removes that afterwards.
	Scratch string `yaml:"scratch,omitempty" json:"scratch,omitempty"`
}
