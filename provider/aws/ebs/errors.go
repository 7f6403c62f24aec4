package ebs

import (
	"context"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/aws/internal/conn"
)

// wrap makes a [provider.Error] of what a call to the SDK returned; nil stays
// nil.
func (s *Snapshots) wrap(ctx context.Context, op, key string, err error) error {
	if err == nil {
		return nil
	}
	return conn.Wrap(ctx, provider.Error{Op: op, Provider: providerName, Key: key, Err: err}, meaning(err))
}

func code(err error) string { return conn.CodeOf(err) }

// meaning is the error of package provider that an answer stands for.
func meaning(err error) error {
	switch code(err) {
	case "InvalidSnapshot.NotFound", "InvalidVolume.NotFound", "InvalidSnapshotID.Malformed", "InvalidVolumeID.Malformed":
		return provider.ErrNotFound
	case "IncorrectState":
		return provider.ErrConflict
	}
	return conn.Permission(err)
}

// isBusy: EC2 makes one snapshot of a volume in 15 seconds, and asks for
// patience.
func isBusy(err error) bool { return code(err) == "SnapshotCreationPerVolumeRateExceeded" }
