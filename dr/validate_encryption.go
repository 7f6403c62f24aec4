package dr

import (
	"fmt"
	"strings"
)

func validateEncryption(f *faults, field string, w Workload) {
	switch strings.ToLower(w.Encryption) {
	case "", "on", "aes-256", "aes-256-gcm", "off", "none":
	default:
		f.add(field+".encryption", fmt.Sprintf("%q is not offered; content is sealed with AES-256-GCM", w.Encryption), "leave it out or write aes-256-gcm")
	}
	switch {
	case w.encryptionOff() && !w.AcceptUnprotected:
		f.add(field+".encryption", "is off: whoever can read a bucket could read all of it",
			"leave it out; if this is really meant, set accept_unprotected: true as well")
	case w.AcceptUnprotected && !w.encryptionOff():
		f.add(field+".accept_unprotected", "is set, but encryption is on", "remove it, or set encryption: off as well")
	}
}

func (w Workload) encryptionOff() bool {
	e := strings.ToLower(w.Encryption)
	return e == "off" || e == "none"
}

// unprotected reports whether the repository is to have its key beside it.
func (c Config) unprotected() bool {
	for _, w := range c.Workloads {
		if !w.encryptionOff() || !w.AcceptUnprotected {
			return false
		}
	}
	return len(c.Workloads) > 0
}

// validateProtection judges what the workloads say together: they share one
// repository, and it has one key.
func (c Config) validateProtection(f *faults) {
	all := c.unprotected()
	for i, w := range c.Workloads {
		if w.encryptionOff() && w.AcceptUnprotected && !all {
			f.add(at("targets", i)+".encryption", "is off, and on for others: all targets of a configuration share one repository and its key",
				"say the same of every target, or give this one a configuration with buckets of its own")
		}
	}
	if all && len(c.Recipients) > 0 {
		f.add("recipients", "protect nothing: encryption is off, so the key is stored in the clear", "remove them, or leave encryption on")
	}
}
