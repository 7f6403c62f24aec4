package backup

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"regexp"
	"time"
)

// A PointID names a point: the UTC time its backup began, in milliseconds,
// and 64 random bits, "20261123t084735.123z-9f86d081884c7d65". IDs sort by
// time.
type PointID string

var pointIDPattern = regexp.MustCompile(`^[0-9]{8}t[0-9]{6}\.[0-9]{3}z-[0-9a-f]{16}$`)

const pointIDTime = "20060102t150405.000z"

func newPointID(at time.Time) PointID {
	var b [8]byte
	rand.Read(b[:])
	return PointID(at.UTC().Format(pointIDTime) + "-" + hex.EncodeToString(b[:]))
}

// Time is the time within the id. An id of the wrong form is an error.
func (id PointID) Time() (time.Time, error) {
	if !pointIDPattern.MatchString(string(id)) {
		return time.Time{}, fmt.Errorf("point id %.80q: want the form 20261123t084735.123z-9f86d081884c7d65", string(id))
	}
	t, err := time.Parse(pointIDTime, string(id[:len(pointIDTime)]))
	if err != nil {
		return time.Time{}, fmt.Errorf("point id %q: %w", string(id), err)
	}
	return t, nil
}

// A Point is a moment you can return to.
type Point struct {
	ID     PointID           `json:"id"`
	Name   string            `json:"name"`             // of the workload
	Kind   string            `json:"kind"`             // of the target
	Mode   Mode              `json:"mode"`             // what was read
	Parent PointID           `json:"parent,omitempty"` // the point that unchanged parts were compared with
	Time   time.Time         `json:"time"`             // when the backup began, by the writer's clock
	Ended  time.Time         `json:"ended"`            // when it was committed, by the writer's clock
	Stored time.Time         `json:"stored"`           // when it was committed, by the store's clock
	Tags   map[string]string `json:"tags,omitempty"`
	Writer string            `json:"writer"` // Config.Writer of the repository that wrote it
	Stats  Stats             `json:"stats"`
	Packs  Amount            `json:"packs,omitzero"` // that it needed when it was written, its own and those it relied on

	Externals []External    `json:"externals,omitempty"`
	Logs      []LogPosition `json:"logs,omitempty"` // what it needs of logs

	// Safety is set in a safety point, and says of which restore.
	Safety *Safety `json:"safety,omitempty"`

	// Warnings tells what is missing or was inconsistent; WarningCount is
	// their number, of which at most the first 1,000 are kept.
	Warnings     []Warning `json:"warnings,omitempty"`
	WarningCount int64     `json:"warningCount,omitempty"`

	// Damaged is not empty if the manifest cannot be read, and says why.
	// Only ID, Time and Stored are then known. Such a point cannot be
	// restored; it is listed so that its loss is seen.
	Damaged string `json:"damaged,omitempty"`

	// SealedWriter says that who signed it has a [Credential] only; Writer is
	// the name in that. Others rely on what he stored when [Repository.Attest]
	// has looked at it.
	SealedWriter bool `json:"sealedWriter,omitempty"`

	// Sealed says that this process cannot read the point; see
	// [Config].Credential. Only ID, Time, Stored, Writer and Packs are then
	// known.
	Sealed bool `json:"sealed,omitempty"`
}

// Partial reports whether something is missing from the point.
func (p Point) Partial() bool { return p.WarningCount > 0 }

// Stats count what a backup did. Sizes are in bytes.
type Stats struct {
	Items       int64 `json:"items"`       // in the point
	Bytes       int64 `json:"bytes"`       // content of those items
	BytesRead   int64 `json:"bytesRead"`   // read from the target: all in Full mode, what changed in the others
	BytesNew    int64 `json:"bytesNew"`    // of what was read, not in the repository before
	BytesStored int64 `json:"bytesStored"` // uploaded: compressed, encrypted, with metadata and index
}
