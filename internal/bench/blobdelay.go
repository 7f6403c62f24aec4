package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"sync"
	"time"
)

// delay is a program: a distance between a client and a server. It listens on
// FROM and passes on to TO; every byte arrives half of RTT after it was sent,
// in either direction, and the first bytes of a connection one RTT later
// still, which is what opening it takes. It does not limit how many bytes
// are on their way.
//
//	delay FROM TO RTT
func delay(ctx context.Context, args []string) error {
	if len(args) != 3 {
		return errors.New("delay: want FROM TO RTT")
	}
	rtt, err := time.ParseDuration(args[2])
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", args[0])
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { l.Close() })
	for {
		near, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer near.Close()
			far, err := net.Dial("tcp", args[1])
			if err != nil {
				return
			}
			defer far.Close()
			var both sync.WaitGroup
			both.Go(func() { later(far, near, rtt/2, time.Now().Add(rtt+rtt/2)) })
			both.Go(func() { later(near, far, rtt/2, time.Time{}) })
			both.Wait()
		}()
	}
}

// later copies from src to dst, what has arrived after some time and not
// before a moment, and closes the one direction of dst at the end.
func later(dst, src net.Conn, by time.Duration, notBefore time.Time) {
	type piece struct {
		due time.Time
		b   []byte
	}
	queue := make(chan piece, 1<<16) // 4 GiB under way: no limit that anybody meets
	go func() {
		defer close(queue)
		b := make([]byte, 64<<10)
		for {
			n, err := src.Read(b)
			if n > 0 {
				due := time.Now().Add(by)
				if due.Before(notBefore) {
					due = notBefore
				}
				queue <- piece{due, bytes.Clone(b[:n])}
			}
			if err != nil {
				return
			}
		}
	}()
	failed := false
	for p := range queue {
		if !failed {
			time.Sleep(time.Until(p.due))
			_, err := dst.Write(p.b)
			failed = err != nil
		}
	}
	if c, ok := dst.(*net.TCPConn); ok {
		c.CloseWrite()
	}
}

// startDelay starts the program before the server at address to.
func startDelay(ctx context.Context, to string, rtt time.Duration) (from string, stop func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return "", nil, err
	}
	if from, err = freeAddress(); err != nil {
		return "", nil, err
	}
	cmd := exec.CommandContext(ctx, self, "delay", from, to, rtt.String())
	cmd.Stdout, cmd.Stderr = io.Discard, os.Stderr
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	stop = func() {
		cmd.Process.Kill()
		cmd.Wait()
	}
	if err := answers(ctx, from); err != nil {
		stop()
		return "", nil, fmt.Errorf("delay: %w", err)
	}
	return from, stop, nil
}
