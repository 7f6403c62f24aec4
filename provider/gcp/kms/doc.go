// Package kms wraps keys with Google's Cloud KMS: a [provider.KeyWrapper] and
// a [provider.KeyUnwrapper].
//
//	keys, err := kms.Open(ctx, kms.Config{})
//	wrapped, err := keys.WrapKey(ctx, "projects/p/locations/europe/keyRings/r/cryptoKeys/backups", secret,
//		provider.EncryptionContext{"repository": "r1"})
//
// # Keys
//
// A key is named by its resource name, as above, without a version: what is
// wrapped is the ciphertext of Cloud KMS and nothing else, which tells the
// service which version made it. Its purpose is ENCRYPT_DECRYPT. Rotation keeps
// what was wrapped before for as long as the old version is enabled. The
// additional authenticated data is the encryption context as
// [provider.EncryptionContext.Bytes] writes it; without this package the secret
// is had from
//
//	gcloud kms decrypt --key K --keyring R --location L --ciphertext-file wrapped --additional-authenticated-data-file context --plaintext-file -
//
// A key is in one location. If that is a single region the key is lost for as
// long as the region is: take a multi-region or dual region for backups
// ("europe", "us", "eur4"), or give the repository another recipient.
//
// # Checksums
//
// Every request carries the CRC-32C of each of its fields, and an answer is only
// believed if the service says that it verified them, if its own CRC-32C is
// right and if it names the key that was asked. Otherwise the request is made
// again, and fails after Config.Attempts.
//
// # What the credential must be allowed
//
//   - to wrap: cloudkms.cryptoKeyVersions.useToEncrypt on the key
//     (roles/cloudkms.cryptoKeyEncrypter). It unwraps nothing.
//   - to unwrap: cloudkms.cryptoKeyVersions.useToDecrypt
//     (roles/cloudkms.cryptoKeyDecrypter).
//
// # Errors
//
// provider.ErrNotFound is a key that Cloud KMS says is not there, or whose
// version, the primary one to wrap and the one of the ciphertext to unwrap, has
// been destroyed. A version that is disabled, or whose destruction is scheduled,
// is none of the errors of package provider: it can be had back, and the error
// says how. So is an outage. To credentials that may not use a key the service
// does not say whether it is there: that is fs.ErrPermission. The vendor's
// [*googleapi.Error] stays in the chain.
//
// # What is not proven
//
// There is no emulator. The suite runs on a server in the tests that does what
// Google documents, and that checks each request and each answer against the
// discovery document of cloudkms/v1. Not seen on Google: the words by which a
// wrong ciphertext, a wrong checksum and a wrong purpose are told apart, all of
// which come as status 400; that permissions are looked at before the ciphertext
// is. With credentials and a key of yours the same suite runs there; a second
// key is HOLDFAST_GCP_OTHER_KEY:
//
//	HOLDFAST_GCP_KEY=projects/... go test ./provider/gcp/kms -run TestGCP -v
//
// [*googleapi.Error]: https://pkg.go.dev/google.golang.org/api/googleapi#Error
package kms
