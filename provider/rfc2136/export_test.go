package rfc2136

import "time"

// SetClock moves the clock by which the provider signs.
func (z *Zone) SetClock(by time.Duration) {
	z.now = func() time.Time { return time.Now().Add(by) }
}

// SetNameserverPort is where the servers in NS records listen.
func (z *Zone) SetNameserverPort(port string) { z.nsPort = port }
