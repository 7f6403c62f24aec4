package files

import "io/fs"

// InodeOf identifies a file.
func InodeOf(fi fs.FileInfo) any { id, _ := identify(fi); return id }

// OnEnter has restores with t call f before they use a directory.
func OnEnter(t *Target, f func(dir string)) { t.entered = f }
