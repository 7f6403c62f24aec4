package main

import (
	"errors"
	"os"
	"path/filepath"
)

// The sites, and the name that clients follow.
const (
	primarySite = "local-a"
	standbySite = "local-b"
	witnessSite = "local-w" // a third place: lease, journal and DNS live there

	dnsProcess    = witnessSite + ".dns"
	clientProcess = "world.client"

	zone        = "quickstart.test."
	serviceName = "ledger." + zone
	portPrefix  = "_port."
)

func storeProcess(site string) string   { return site + ".store" }
func serviceProcess(site string) string { return site + ".service" }
func hostOf(site string) string         { return site + "." + zone }

// layout says where everything is in a state directory.
type layout struct{ dir string }

func (l layout) store(site string) string               { return filepath.Join(l.dir, site, "store") }
func (l layout) data(site string) string                { return filepath.Join(l.dir, site, "data") }
func (l layout) secret(name string) string              { return filepath.Join(l.dir, "secrets", name) }
func (l layout) config(name string) string              { return filepath.Join(l.dir, "config", name+".json") }
func (l layout) inSite(site string, name string) string { return filepath.Join(l.dir, site, name) }

// parts are the directories that a run makes, beside run and report.
var parts = []string{"config", "secrets", "client", primarySite, standbySite, testSite, witnessSite}

func (l layout) make() error {
	for _, d := range append([]string{"report"}, parts...) {
		if err := os.MkdirAll(filepath.Join(l.dir, d), 0o700); err != nil {
			return err
		}
	}
	return nil
}

// clear removes what a run made, except its report and its stage log.
func (l layout) clear() error {
	var errs []error
	for _, d := range parts {
		errs = append(errs, removeTree(filepath.Join(l.dir, d)))
	}
	// Of run/ what says who we are stays, until the end.
	paths, err := filepath.Glob(filepath.Join(l.dir, "run", "*"))
	errs = append(errs, err)
	for _, p := range paths {
		if n := filepath.Base(p); n != orchestratorName+".lock" && n != orchestratorName+".json" {
			errs = append(errs, removeTree(p))
		}
	}
	return errors.Join(errs...)
}
