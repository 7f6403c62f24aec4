package report

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// Write writes report-ID.json and then report-ID.html into dir, which it
// creates if need be, and returns their paths once both are durable.
//
// Each file appears whole or not at all. Neither is ever replaced: if one is
// there with the same bytes that is success (so a Write can be repeated), with
// other bytes it is an error wrapping [fs.ErrExist]. The files are readable by
// their owner alone (0600), because a report tells an attacker what is where.
func (r *Report) Write(dir string) (htmlPath, jsonPath string, err error) {
	twin, err := r.twin()
	if err != nil {
		return "", "", err
	}
	page, err := render(r, twinHash(twin))
	if err != nil {
		return "", "", err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", "", fmt.Errorf("write report: %w", err)
	}
	jsonPath = filepath.Join(dir, "report-"+r.ID+".json")
	htmlPath = filepath.Join(dir, "report-"+r.ID+".html")
	if err := writeOnce(jsonPath, twin); err != nil {
		return "", "", fmt.Errorf("write report: %w", err)
	}
	if err := writeOnce(htmlPath, page); err != nil {
		return "", "", fmt.Errorf("write report: %w", err)
	}
	return htmlPath, jsonPath, nil
}

// writeOnce makes a durable file that appears whole and replaces nothing. A
// crash leaves at most a file named .report-*.part beside it.
func writeOnce(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".report-*.part") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	// Unlike a rename, a link fails if the name is taken.
	if err := os.Link(f.Name(), path); errors.Is(err, fs.ErrExist) {
		if err := sameFile(path, b); err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// sameFile makes sure that what is at path has the bytes b and is durable:
// whoever wrote it may have crashed before saying so.
func sameFile(path string, b []byte) error {
	got, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, b) {
		return fmt.Errorf("%s holds another report; give this one another id: %w", path, fs.ErrExist)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// syncDir makes the names in dir durable. Windows has no such call: there the
// file system's own journal keeps the name.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
