// Package keyvault wraps keys with Azure Key Vault or a Managed HSM: a
// [provider.KeyWrapper] and a [provider.KeyUnwrapper].
//
//	keys, err := keyvault.Open(ctx, keyvault.Config{Vault: "https://NAME.vault.azure.net"})
//	wrapped, err := keys.WrapKey(ctx, "backups", secret, provider.EncryptionContext{"repository": "r1"})
//
// # How a secret is wrapped
//
// The vault wraps without additional data. So it is given a random key of 32
// bytes, of which it never sees the use; the secret is sealed under that key by
// AES-256-GCM, with the context as additional data. What WrapKey returns holds
// the wrapped key, the sealed secret, and the version of the vault's key that
// wrapped, about 350 bytes for a key of RSA of 2048 bits. The context is not in
// the vault's audit log, and its policies cannot ask for it.
//
// Without this package the secret is had by
//
//	POST https://VAULT/keys/NAME/VERSION/unwrapkey
//
// and AES-256-GCM; the source of this package, envelope.go, has the bytes.
//
// # Keys
//
// A key is named by its name or by its URL without a version. It wraps with its
// current version and unwraps with the one that wrapped, so that rotating it
// keeps what was wrapped before, as long as the old version is neither disabled
// nor purged. Keys are of RSA, in hardware or not, with RSA-OAEP-256; in a
// Managed HSM also symmetric ones of 256 bits, with A256KW.
//
// A vault is in one region, with a second one that Azure alone fails over to,
// and there read-only; unwrapping is a read. For a repository that must outlive
// the vault, add a second recipient.
//
// # What the credential must be allowed
//
//   - to wrap: Microsoft.KeyVault/vaults/keys/wrap/action (in an access policy:
//     wrapKey). It unwraps nothing.
//   - to unwrap: Microsoft.KeyVault/vaults/keys/unwrap/action (unwrapKey).
//   - both, if it may be: Microsoft.KeyVault/vaults/keys/read (get), by which
//     a key that is soft-deleted is told from one that is gone.
//
// # Errors
//
// provider.ErrNotFound is a key that the vault does not have, not even
// soft-deleted; where the credential may not ask for that, the text says so. A
// key that is soft-deleted, disabled, outside of its dates or not for the
// operation is none of the errors of package provider: the key is there, and
// the error says how it is had back. So is a firewall, and an outage. A vault
// lets a disabled key wrap; it is refused when it unwraps. The error of the
// vendor ([azcore.ResponseError]) stays in the chain.
//
// # What is not proven
//
// The suite runs on the SDK's fake server, with keys behind it that really
// wrap, and before it what Azure documents of permissions and states. Not seen
// on Azure: that permission is looked at before the bytes that are to be
// unwrapped, and in all versions of the service the inner codes of 403
// (KeyDisabled and others); the network rules; A256KW. With the standard chain
// of credentials and keys of yours the same suite runs there:
//
//	HOLDFAST_AZURE_VAULT_KEY=https://VAULT/keys/NAME HOLDFAST_AZURE_VAULT_OTHER_KEY=https://VAULT/keys/NAME2 go test -v -run TestAzure ./provider/azure/keyvault
//
// [azcore.ResponseError]: https://pkg.go.dev/github.com/Azure/azure-sdk-for-go/sdk/azcore#ResponseError
package keyvault
