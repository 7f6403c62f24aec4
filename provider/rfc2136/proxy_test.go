package rfc2136_test

import (
	"encoding/binary"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/miekg/dns"
)

// A fate is what happens to a message on its way.
type fate int

const (
	pass  fate = iota
	lose       // the connection is closed instead
	reset      // ... with a reset
	hold       // nothing more comes or goes, and nothing is closed
	cut        // half of it arrives, then the connection is closed
)

// A network stands between a provider and its server, on TCP, and decides the
// fate of updates and of their answers. Queries pass.
type network struct {
	addr, server string
	update       atomic.Pointer[func(n int) fate] // of the n-th update, from 1
	answer       atomic.Pointer[func(n int) fate]
	deaf         atomic.Bool // nothing passes at all
	updates      atomic.Int32

	mu   sync.Mutex
	kept [][]byte // updates as they were, without the length before them
}

func newNetwork(t testing.TB, server string) *network {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &network{addr: l.Addr().String(), server: server}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { n.carry(client, stop) })
		}
	})
	t.Cleanup(func() { l.Close(); close(stop); wg.Wait() })
	return n
}

// fates sets what happens to updates and their answers; a missing one passes.
func (n *network) fates(update, answer map[int]fate) {
	n.updates.Store(0)
	of := func(m map[int]fate) *func(int) fate {
		f := func(i int) fate { return m[i] }
		return &f
	}
	n.update.Store(of(update))
	n.answer.Store(of(answer))
}

func (n *network) carry(client net.Conn, stop <-chan struct{}) {
	defer client.Close()
	server, err := net.Dial("tcp", n.server)
	if err != nil {
		return
	}
	defer server.Close()
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case <-stop:
			client.Close()
			server.Close()
		case <-done:
		}
	}()
	for {
		q, err := readFrame(client)
		if err != nil {
			return
		}
		number := 0
		if len(q) > 2 && q[2]>>3&0xF == dns.OpcodeUpdate {
			number = int(n.updates.Add(1))
			n.mu.Lock()
			n.kept = append(n.kept, q)
			n.mu.Unlock()
		}
		if !n.forward(q, client, server, n.fate(&n.update, number), stop) {
			return
		}
		a, err := readFrame(server)
		if err != nil || !n.forward(a, client, client, n.fate(&n.answer, number), stop) {
			return
		}
	}
}

func (n *network) fate(f *atomic.Pointer[func(int) fate], number int) fate {
	if n.deaf.Load() {
		return hold
	}
	if g := f.Load(); g != nil && number > 0 {
		return (*g)(number)
	}
	return pass
}

// forward sends a message on to to, and reports whether the connection goes on.
func (n *network) forward(b []byte, client, to net.Conn, f fate, stop <-chan struct{}) bool {
	switch f {
	case pass:
		return writeFrame(to, b) == nil
	case reset:
		client.(*net.TCPConn).SetLinger(0)
	case hold:
		buf := make([]byte, 1)
		gone := make(chan struct{})
		go func() { client.Read(buf); close(gone) }() // until the client gives up
		select {
		case <-gone:
		case <-stop:
		}
	case cut:
		frame := append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
		to.Write(frame[:len(frame)/2])
	}
	return false
}

func readFrame(r io.Reader) ([]byte, error) {
	var length [2]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint16(length[:]))
	_, err := io.ReadFull(r, b)
	return b, err
}

func writeFrame(w io.Writer, b []byte) error {
	_, err := w.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...))
	return err
}

// replay sends a message that was on the way before, over "tcp" or "udp", and
// returns the code of the answer.
func replay(t testing.TB, network, server string, msg []byte) string {
	t.Helper()
	conn, err := net.Dial(network, server)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var answer []byte
	if network == "udp" {
		if _, err = conn.Write(msg); err == nil {
			answer = make([]byte, 4096)
			var n int
			n, err = conn.Read(answer)
			answer = answer[:n]
		}
	} else if err = writeFrame(conn, msg); err == nil {
		answer, err = readFrame(conn)
	}
	if err != nil {
		t.Fatal(err)
	}
	var m dns.Msg
	if err := m.Unpack(answer); err != nil {
		t.Fatal(err)
	}
	return dns.RcodeToString[m.Rcode]
}
