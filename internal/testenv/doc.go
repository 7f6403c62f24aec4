// Package testenv starts real servers for tests, in containers, through
// testcontainers-go: MinIO and versitygw for S3, moto for the control planes of
// AWS, fake-gcs-server for Google Cloud Storage, Azurite for Azure Blob Storage,
// BIND and Knot for DNS, PostgreSQL 15, 17 and 18. Only tests import it, and nothing it needs reaches who imports
// Holdfast.
//
// A package whose tests use a server hands its TestMain to [Main], which stops
// what they started:
//
//	func TestMain(m *testing.M) { testenv.Main(m) }
//
//	func TestStore(t *testing.T) {
//		server := testenv.MinIO(t)
//		bucket := server.NewBucket(t, testenv.BucketOptions{Locks: true})
//		...
//	}
//
// One server of each kind serves all tests of a process; every test makes
// buckets of its own. A server is up in about a second, so processes do not
// share them. A cluster of PostgreSQL belongs to one test, which may kill it.
//
// # A writer that may only create
//
// [S3.CreateOnly] makes a credential for one bucket that may put and list, get
// what lies under none of the given prefixes, and never delete: with
// BucketOptions{Keep: ...} that is the bucket of a writer whose host may be
// stolen. Floors forbid package backup to import provider/aws, so a test of
// both stands in the tests of provider/aws (package aws_test), which may import
// backup, or in examples:
//
//	server := testenv.MinIO(t)
//	bucket := server.NewBucket(t, testenv.BucketOptions{Keep: 24 * time.Hour})
//	stolen := server.CreateOnly(t, bucket, "data/") // the prefix of packs
//	store, err := aws.Open(ctx, aws.Config{Bucket: bucket, Endpoint: server.Endpoint, PathStyle: true,
//		Credentials: credentials.NewStaticCredentialsProvider(stolen.AccessKey, stolen.SecretKey, "")})
//
// # Where the servers come from
//
// No image is pulled; [Prepare] makes each once. A server in Go is pinned by a
// nested module of its own below servers, built into the user's cache
// directory, and put alone into an image. A server for Node.js is pinned by a
// package-lock.json there, and fetched by the host's npm. Any other is made of
// packages of Debian, on an image of Debian that mmdebstrap makes. The name of an image ends
// in a hash of what it is made from, so that a change to one server makes no
// other again. That takes minutes the first time, for which `make servers` is
// the place, and nothing afterwards.
//
// To add a server: an image (of a program or of a debian) in images, and a
// type that embeds server with a function that starts its service.
//
// # Docker
//
// Without a Docker daemon, or without what makes an image, the tests of a
// server are skipped, and fail where CI=true. The package sets two variables
// for testcontainers-go unless they are set:
// TESTCONTAINERS_RYUK_DISABLED, because the image of its reaper would have to
// be pulled (containers that a killed test left are removed by the next one
// instead), and TESTCONTAINERS_HOST_OVERRIDE=localhost where a file
// /.dockerenv makes a machine look like a container, in which published ports
// would be sought at the gateway.
package testenv
