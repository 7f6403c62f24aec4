package roles

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
)

// ErrCut is what a connection of [Cut] fails with.
var ErrCut = errors.New("cut by the test")

// Cut returns the same server over connections that break at the n-th write
// from when the session stands, counted from 1: before it is sent or, with
// lost, behind it, so that only the reply is lost. done reports whether that
// has happened.
func (s *Server) Cut(n int64, lost bool) (cut *Server, done func() bool) {
	c := *s
	c.conn = s.conn.Copy()
	var count atomic.Int64
	var broken atomic.Bool
	dial := c.conn.DialFunc
	c.conn.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		return &cutConn{Conn: conn, count: &count, broken: &broken, at: n, lost: lost}, err
	}
	return &c, broken.Load
}

type cutConn struct {
	net.Conn
	count  *atomic.Int64
	broken *atomic.Bool
	at     int64
	lost   bool
}

func (c *cutConn) Write(b []byte) (int, error) {
	if c.count.Add(1) != c.at {
		return c.Conn.Write(b)
	}
	c.broken.Store(true)
	if !c.lost {
		c.Conn.Close()
		return 0, ErrCut
	}
	n, err := c.Conn.Write(b)
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		tcp.CloseWrite() // the server reads what was sent, to the end
	}
	return n, err
}

func (c *cutConn) Read(b []byte) (int, error) {
	if c.broken.Load() && c.lost {
		for { // until the server has done it
			if _, err := c.Conn.Read(make([]byte, 4096)); err != nil {
				return 0, ErrCut
			}
		}
	}
	return c.Conn.Read(b)
}
