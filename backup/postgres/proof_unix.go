//go:build unix

package postgres

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

// ownerOf is who a directory belongs to, for root, who can be anybody; nil for
// all others.
func ownerOf(dir string) (*owner, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	fi, err := os.Stat(dir)
	if err != nil {
		return nil, err
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok || st.Uid == 0 {
		return nil, fmt.Errorf("%s belongs to root, as whom no PostgreSQL runs; restore it with the option owner, or chown it", dir)
	}
	return &owner{int(st.Uid), int(st.Gid)}, nil
}

// runAs makes a program somebody else's.
func runAs(cmd *exec.Cmd, o owner) {
	if o.user == os.Geteuid() {
		return
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(o.user), Gid: uint32(o.group)}}
}
