package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"
)

// A stageLog is what the story remembers across a crash of the orchestrator:
// which stages are done, and what later stages need to know of them. It is
// one file, story.json, replaced as a whole.
//
// It is not what makes failover safe: that is the lease and the journal at the
// witness. If this file is behind, a stage is run again and finds its work done.
type stageLog struct {
	path string

	Run      string          `json:"run"` // names this run in reports and notifications
	Settings settings        `json:"settings"`
	Started  time.Time       `json:"started"`
	Resumed  int             `json:"resumed"` // how often
	Done     map[string]span `json:"done"`    // by stage
	Facts    facts           `json:"facts"`
}

// span is when something began and ended.
type span struct {
	Began time.Time `json:"began"`
	Ended time.Time `json:"ended"`
}

func stageLogPath(dir string) string { return filepath.Join(dir, "story.json") }

// newStageLog begins a story in dir.
func newStageLog(dir string, s settings) *stageLog {
	return &stageLog{
		path: stageLogPath(dir), Run: "qs-" + strings.ToLower(rand.Text()[:8]), Settings: s,
		Started: time.Now().UTC(), Done: map[string]span{},
	}
}

// openStageLog reads the story of dir, to go on with it.
func openStageLog(dir string) (*stageLog, error) {
	l := &stageLog{path: stageLogPath(dir)}
	err := readJSON(l.path, l)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("nothing to resume: %w", err)
	}
	return l, err
}

func (l *stageLog) save() error { return writeJSON(l.path, l) }

// remember changes the facts and makes the change durable.
func (l *stageLog) remember(change func(*facts)) error {
	change(&l.Facts)
	return l.save()
}

func (l *stageLog) finish(stage string, began time.Time) error {
	l.Done[stage] = span{Began: began, Ended: time.Now().UTC()}
	return l.save()
}
