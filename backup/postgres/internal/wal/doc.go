// Package wal knows the bytes of PostgreSQL's write-ahead log, of versions 15
// to 18: positions, names of segment files, pages, records and the .history
// files of timelines. It reads what it is given and does no other I/O.
//
// It tells where each record begins and ends, checks it as the server would
// (page headers, CRC-32C, the link to the record before), and understands
// those records that say where recovery can stop: commits, aborts, restore
// points, and the checkpoints and ends of recovery between timelines. It does
// not interpret what a record does to a page.
//
// Nothing here trusts a length that it has read: memory is taken for bytes
// that have come, and at most [keepMax] of one record.
//
// The format is that of access/xlog_internal.h, xlogrecord.h, xact.h and
// pg_control.h in PostgreSQL's source, on a little-endian machine.
package wal
