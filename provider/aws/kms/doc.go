// Package kms wraps keys with AWS KMS: a [provider.KeyWrapper] and a
// [provider.KeyUnwrapper].
//
//	keys, err := kms.Open(ctx, kms.Config{Region: "eu-central-1"})
//	wrapped, err := keys.WrapKey(ctx, "alias/backups", secret, provider.EncryptionContext{"repository": "r1"})
//
// # Keys
//
// A key is named by its ID, its ARN, an alias ("alias/backups") or the ARN of
// an alias. An ARN says in which region the key is, and in which account; of
// the other names it is Config.Region and the account of the credentials. Use
// the ARN of a key wherever the name is kept: an alias can be turned to
// another key, which then unwraps nothing of what the first one wrapped. Keys
// are symmetric (SYMMETRIC_DEFAULT); others do not take an encryption context,
// and the service refuses them.
//
// What is wrapped is the ciphertext of KMS and nothing else, so that without
// this package, too, the secret is had from
//
//	aws kms decrypt --key-id KEY --ciphertext-blob fileb://wrapped --encryption-context name=value,...
//
// # When the region of a key is gone
//
// A multi-Region key (its ID begins with "mrk-") has replicas in other regions
// that unwrap what it wrapped. Name those regions in Config.Replicas: they are
// asked in turn when the key's own region does not answer within
// Config.Timeout, or cannot use the key. The ARN that was kept stays good
// although it names the lost region. A key that is not multi-Region is lost
// for as long as its region is, and for such a case a repository needs
// another recipient.
//
// # What the credential must be allowed
//
//   - to wrap: kms:Encrypt on the key. It unwraps nothing.
//   - to unwrap: kms:Decrypt on the key.
//
// Policies can ask for the context: kms:EncryptionContext:repository.
//
// # Errors
//
// provider.ErrNotFound is a key, or alias, that KMS says is not there, in all
// regions that were asked. A key that is disabled or whose deletion is
// scheduled is none of the errors of package provider: the key is there and
// can be had back, and the error says how. So is an outage. The error of the
// vendor ([*types.DisabledException] and the others) stays in the chain.
//
// # What is not proven
//
// The suite runs on moto, which has no permissions of keys, lets a disabled key
// decrypt and breaks on multi-Region keys; the tests put in front of it what
// AWS documents. These have not been seen on AWS: that a dry run of Decrypt
// with IGNORE_CIPHERTEXT, by which bytes that are no ciphertext are told from
// a credential that may not unwrap, answers as documented; that a replica
// unwraps; the FIPS endpoints. With credentials and a key of yours the same
// suite runs there:
//
//	HOLDFAST_AWS_KEY=arn:aws:kms:... go test ./provider/aws/kms -run TestAWS -v
//
// [*types.DisabledException]: https://pkg.go.dev/github.com/aws/aws-sdk-go-v2/service/kms/types#DisabledException
package kms
