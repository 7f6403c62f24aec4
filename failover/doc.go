// Package failover moves a service from one site to another without ever
// having two primaries.
package failover
