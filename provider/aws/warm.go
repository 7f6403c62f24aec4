package aws

import (
	"cmp"
	"context"
	"errors"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/aws/internal/conn"
	"github.com/holdfast-go/holdfast/provider/internal/remote"
)

// Warm implements [provider.Warmer], for the classes GLACIER and DEEP_ARCHIVE,
// of which S3 makes a copy for some days, and for the archive tiers of
// INTELLIGENT_TIERING, which the object leaves. Urgent is an expedited
// retrieval, minutes of GLACIER; of DEEP_ARCHIVE, and when S3 has no capacity for
// it, it is a standard one, of hours.
func (s *Store) Warm(ctx context.Context, key string, o provider.WarmOptions) (provider.State, error) {
	err := errors.Join(ctx.Err(), remote.CheckKey(key), remote.CheckWarm(o))
	if err == nil {
		var state provider.State
		if state, err = s.warm(ctx, key, o); err == nil {
			return state, nil
		}
	}
	return "", wrap(ctx, "warm", key, err)
}

func (s *Store) warm(ctx context.Context, key string, o provider.WarmOptions) (provider.State, error) {
	out, err := s.headers(ctx, key, "")
	if err != nil {
		return "", err
	}
	moves := out.ArchiveStatus != "" // within INTELLIGENT_TIERING
	copied := out.StorageClass == types.StorageClassGlacier || out.StorageClass == types.StorageClassDeepArchive
	switch restore := aws.ToString(out.Restore); {
	case strings.Contains(restore, `ongoing-request="true"`):
		return provider.Pending, nil
	case !moves && !copied, restore != "" && !moves:
		return provider.Ready, nil
	}
	in := &s3.RestoreObjectInput{Bucket: &s.c.Bucket, Key: &key, VersionId: out.VersionId, RestoreRequest: &types.RestoreRequest{
		GlacierJobParameters: &types.GlacierJobParameters{Tier: types.TierStandard}}}
	if copied {
		in.RestoreRequest.Days = aws.Int32(int32(cmp.Or(o.Days, 7)))
	}
	if o.Urgent && out.StorageClass != types.StorageClassDeepArchive && out.ArchiveStatus != types.ArchiveStatusDeepArchiveAccess {
		in.RestoreRequest.GlacierJobParameters.Tier = types.TierExpedited
	}
	_, err = s.client.RestoreObject(ctx, in)
	if conn.CodeOf(err) == "GlacierExpeditedRetrievalNotAvailable" {
		in.RestoreRequest.GlacierJobParameters.Tier = types.TierStandard
		_, err = s.client.RestoreObject(ctx, in)
	}
	switch conn.CodeOf(err) {
	case "RestoreAlreadyInProgress": // another has asked, or this request was made twice
		return provider.Pending, nil
	case "ObjectAlreadyInActiveTierError": // it has come back since
		return provider.Ready, nil
	}
	return provider.Pending, err
}
