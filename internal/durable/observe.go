package durable

import (
	"os"
	"sync/atomic"
)

// observer is there because no test can see from outside whether, and in what
// order, data and names were made durable: only a power failure would tell.
var observer atomic.Pointer[func(op string, root *os.Root, name string)]

// Observe has f told of everything this package does that has succeeded, in
// its order, until stop is called: "mkdir", "rename", "link", "remove", and
// "sync" of a file or directory. It is for tests. There is one observer at a
// time; f tells its own root from those of others.
func Observe(f func(op string, root *os.Root, name string)) (stop func()) {
	observer.Store(&f)
	return func() { observer.Store(nil) }
}

func note(op string, root *os.Root, name string) {
	if f := observer.Load(); f != nil {
		(*f)(op, root, name)
	}
}
