//go:build unix

package local

import (
	"errors"
	"io/fs"
	"sync"
	"testing"
)

// TestPinVanishes: a job that is done takes its pin away and asks for no lock,
// so it may go at any moment while another process looks at all pins.
func TestPinVanishes(t *testing.T) {
	s, err := NewSnapshotter(SnapshotConfig{Dir: t.TempDir(), Region: "here"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	j := restoreJob("here", "token")
	stop := make(chan struct{})
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(stop)
	pin := pinsDir + "/data." + j.id
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			// As Snapshotter.pin does it, but not durably: that would be too slow.
			if err := s.own.root.WriteFile(pin, []byte("here"), 0o600); err != nil {
				t.Error(err)
				return
			}
			if err := s.own.root.Remove(pin); err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Error(err)
				return
			}
		}
	})
	for range 20000 {
		if _, err := s.needed(s.own, pin, j.id); err != nil {
			t.Fatal(err)
		}
	}
}
