package postgres

import (
	"regexp"
	"slices"
	"strings"
)

// What follows is what BASE_BACKUP leaves out, in every version from 15 to 18
// (backup/basebackup.c): what a server makes anew when it starts.

// emptied are directories whose content is left out.
var emptied = []string{"pg_dynshmem", "pg_notify", "pg_replslot", "pg_serial", "pg_snapshots", "pg_stat_tmp", "pg_subtrans"}

// omitted are files that are left out wherever they are; a backup_label is none
// of this backup.
var omitted = []string{"postmaster.pid", "postmaster.opts", "backup_label", "tablespace_map", "backup_manifest", "postgresql.auto.conf.tmp",
	"current_logfiles.tmp"}

var (
	temporary = regexp.MustCompile(`^t[0-9]+_[0-9]+(_(fsm|vm|init))?(\.[0-9]+)?$`)
	initFork  = regexp.MustCompile(`^([0-9]+)_init$`)
)

// leftOut reports whether an entry of a directory is not in a backup. initial
// are the numbers of relations there that have an init fork: unlogged ones, of
// which nothing else is.
func leftOut(dir, name string, initial map[string]bool) bool {
	if strings.HasPrefix(name, "pgsql_tmp") || strings.HasPrefix(name, "pg_internal.init") || slices.Contains(omitted, name) {
		return true
	}
	if dir == "." {
		return name == ".holdfast" || name == markerPath // of a restore, which would refuse them
	}
	if !holdsRelations(dir) {
		return false
	}
	number, rest, _ := strings.Cut(name, "_")
	number, _, _ = strings.Cut(number, ".")
	return temporary.MatchString(name) || initial[number] && !strings.HasPrefix(rest, "init") && isRelation(dir+"/"+name)
}

// unlogged finds the relations of a directory that have an init fork.
func unlogged(entries []entry) map[string]bool {
	var found map[string]bool
	for _, e := range entries {
		if m := initFork.FindStringSubmatch(e.name); m != nil {
			if found == nil {
				found = map[string]bool{}
			}
			found[m[1]] = true
		}
	}
	return found
}

// holdsRelations reports whether a directory is of a database, or of what is
// shared by all.
func holdsRelations(dir string) bool {
	return dir == "global" || strings.HasPrefix(dir, "base/") || strings.HasPrefix(dir, "pg_tblspc/")
}
