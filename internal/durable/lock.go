package durable

import (
	"context"
	"os"
	"time"
)

// Lock takes the lock that the file name stands for, making the file if it is
// not there, and returns the function that gives it back. At most one caller
// holds it, among all goroutines of all processes of this machine; the death
// of its process gives it back. It waits until the lock is free or ctx ends.
// Whoever asks next when it becomes free gets it: there is no queue.
//
// The file must never be removed while the lock is in use, or a second lock
// comes into being under its name.
func Lock(ctx context.Context, root *os.Root, name string) (unlock func() error, err error) {
	f, err := root.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	// Asking again and again, rather than waiting in the kernel, is what lets
	// ctx end the wait.
	const longest = 20 * time.Millisecond
	for wait := 250 * time.Microsecond; ; wait = min(2*wait, longest) {
		ok, err := tryLock(f)
		if ok {
			return f.Close, nil
		}
		if err == nil {
			err = sleep(ctx, wait)
		}
		if err != nil {
			f.Close()
			return nil, err
		}
	}
}

// TryLock is [Lock] without waiting: unlock is nil if another holds the lock.
func TryLock(root *os.Root, name string) (unlock func() error, err error) {
	f, err := root.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	ok, err := tryLock(f)
	if !ok {
		f.Close()
		return nil, err
	}
	return f.Close, nil
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}
