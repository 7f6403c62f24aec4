//go:build !linux

package local_test

import "io/fs"

func setTestXattr(path string) error               { return nil }
func testXattr(path string, fi fs.FileInfo) string { return "" }

func setTestOwner(path string) error { return nil }
