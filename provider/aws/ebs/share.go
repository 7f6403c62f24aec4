package ebs

import (
	"context"
	"errors"
	"fmt"
	"regexp"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/holdfast-go/holdfast/provider"
)

var accountID = regexp.MustCompile(`^[0-9]{12}$`)

// Share implements [provider.SnapshotSharer] for accounts of 12 digits. Those
// who use an encrypted snapshot need that they may use its key, too, which
// cannot be the account's own "aws/ebs".
func (s *Snapshots) Share(ctx context.Context, ref provider.SnapshotRef, accounts ...string) error {
	return s.wrap(ctx, "snapshot share", ref.ID, s.permit(ctx, ref, types.OperationTypeAdd, accounts))
}

// Unshare implements [provider.SnapshotSharer].
func (s *Snapshots) Unshare(ctx context.Context, ref provider.SnapshotRef, accounts ...string) error {
	return s.wrap(ctx, "snapshot unshare", ref.ID, s.permit(ctx, ref, types.OperationTypeRemove, accounts))
}

func (s *Snapshots) permit(ctx context.Context, ref provider.SnapshotRef, how types.OperationType, accounts []string) error {
	for _, a := range accounts {
		if !accountID.MatchString(a) { // nor "all", which would be everybody
			return fmt.Errorf("%q is not an account of 12 digits", a)
		}
	}
	if len(accounts) == 0 {
		return errors.New("no accounts")
	}
	if _, err := s.describe(ctx, ref); err != nil {
		return err
	}
	_, err := s.client.ModifySnapshotAttribute(ctx, &ec2.ModifySnapshotAttributeInput{
		SnapshotId: &ref.ID, Attribute: types.SnapshotAttributeNameCreateVolumePermission, OperationType: how, UserIds: accounts,
	})
	return err
}
