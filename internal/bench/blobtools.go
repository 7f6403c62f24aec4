package main

import (
	"fmt"
	"os"
	"slices"
	"strconv"
)

// A transfer is a program that brings objects to and from a bucket. Its
// functions are the argv of a step.
type transfer struct {
	name, version string

	upload   func(dir, bucket string) []string
	download func(bucket, dir string) []string
	copy     func(from, to string) []string
	list     func(bucket string) []string // prints one key a line
}

// underWay is how many objects Holdfast, and rclone beside its defaults, has
// under way.
const underWay = 64

// transfers are Holdfast, and rclone with its defaults and as wide as that, or
// those of them that are named.
func transfers(cache, names string) (all []transfer, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	n := strconv.Itoa(underWay)
	wanted := func(name string) bool { return names == "" || slices.Contains(splitList(names), name) }
	if wanted("holdfast") {
		ours := func(args ...string) []string { return append([]string{self, "client", n}, args...) }
		all = append(all, transfer{
			name: "holdfast", version: "this tree, " + n + " objects under way",
			upload:   func(dir, bucket string) []string { return ours("upload", dir, bucket) },
			download: func(bucket, dir string) []string { return ours("download", bucket, dir) },
			copy:     func(from, to string) []string { return ours("copy", from, to) },
			list:     func(bucket string) []string { return ours("list", bucket) },
		})
	}
	wide := "rclone-" + n
	if !wanted("rclone") && !wanted(wide) {
		return all, nil
	}
	p, err := install(cache, blobPeers)
	if err != nil {
		return nil, err
	}
	version, err := output(command{argv: append(p.rclone(), "version"), env: []string{"RCLONE_CONFIG=/dev/null"}})
	if err != nil {
		return nil, err
	}
	if wanted("rclone") {
		all = append(all, rclone(p, "rclone", version+", its defaults", nil, nil))
	}
	if wanted(wide) {
		all = append(all, rclone(p, wide, fmt.Sprintf("%s, --transfers %s --checkers %s, and --fast-list for the list", version, n, n),
			[]string{"--transfers", n, "--checkers", n}, []string{"--fast-list"}))
	}
	return all, nil
}

func rclone(p peers, name, version string, flags, listFlags []string) transfer {
	run := func(flags []string, args ...string) []string {
		return append(append(append(p.rclone(), "-q"), args...), flags...)
	}
	return transfer{
		name: name, version: version,
		upload:   func(dir, bucket string) []string { return run(flags, "copy", dir, "s3:"+bucket) },
		download: func(bucket, dir string) []string { return run(flags, "copy", "s3:"+bucket, dir) },
		copy:     func(from, to string) []string { return run(flags, "copy", "s3:"+from, "s3:"+to) },
		list: func(bucket string) []string {
			return run(slices.Concat(flags, listFlags), "lsf", "-R", "--files-only", "s3:"+bucket)
		},
	}
}
