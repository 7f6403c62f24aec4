// Package mrap makes the regions of an S3 Multi-Region Access Point active and
// passive: a [provider.TrafficSwitch].
//
//	point, err := mrap.Open(ctx, mrap.Config{
//		ARN:     "arn:aws:s3::111122223333:accesspoint/mfzwi23gnjvgw.mrap",
//		Regions: []string{"us-east-1", "eu-west-1"},
//	})
//	now, err := point.State(ctx)
//	err = point.Switch(ctx, now, provider.TrafficState{Sites: []string{"eu-west-1"}})
//
// Clients that reach buckets by the access point are sent to the nearest active
// region. What is in progress with a region that becomes passive goes on to its
// end. Replication between the buckets is another matter, and not done here.
//
// # Data plane
//
// Routes are served by S3's failover infrastructure in five regions, whichever
// the buckets are in. One of them, chosen by chance, is asked first and kept while
// it answers; one that throttles, breaks, or says nothing for Config.Timeout is
// followed by the next, twice round. No other region is asked: in particular not
// us-west-2 for the access point itself. Keep the credentials free of a region,
// too.
//
// # How a switch is made
//
// One GetMultiRegionAccessPointRoutes says what is; one
// SubmitMultiRegionAccessPointRoutes has the routes of all regions of the switch,
// also of those that are to stay as they are. S3 compares nothing and has no
// place for an owner or an epoch: [provider.TrafficTraits].Compared and Marked
// are false. Of callers that race the last one stays. S3 says that a change takes
// up to two minutes: Switch returns when it is seen to be made, and waits for
// that for three minutes, or as long as ctx lasts. What it was not seen to have
// made is not known.
//
// If a reply is lost, the next region is read before anything is sent again.
//
// One region has to be active at all times: to close the last one is
// [provider.ErrRefused]. A region that has a part of the traffic only is no state.
//
// # What the credential must be allowed
//
// s3:GetMultiRegionAccessPointRoutes and s3:SubmitMultiRegionAccessPointRoutes on
// the access point.
//
// # What is not proven
//
// There is no emulator. The suite runs on a server in the tests that does what
// AWS documents and speaks with the client that AWS generates from its model; the
// requests of a switch are asserted to the letter. Not seen on AWS: whether routes
// are read as submitted or as in effect (either is waited for), the code by which
// the last region is refused (InvalidRequest), whether one request with a region
// that is active already is taken. The same suite runs on an access point of
// yours, makes its regions active and passive, and puts them back; that takes as
// long as S3 does, times sixty:
//
//	HOLDFAST_AWS_MRAP=arn:aws:s3::... HOLDFAST_AWS_MRAP_REGIONS=us-east-1,eu-west-1 \
//		go test ./provider/aws/mrap -run TestAWS -v -timeout 4h
package mrap
