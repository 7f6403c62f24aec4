package azure

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/sas"
	"golang.org/x/sync/errgroup"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/internal/remote"
)

const (
	copyPart  = 64 << 20 // bytes that one request copies; the service takes up to 4,000 MiB
	maxSource = 2 << 10  // bytes of the URL of a source

	// readable is how long the service may take to read what it is given a
	// signature for. It is long because its clock may be another than ours.
	readable = time.Hour
)

// CopyFrom implements [provider.Copier], from any container of any account
// that the service can reach. It looks at the source, and has the service read
// that version of it in blocks of 64 MiB, Config.Concurrency beside each
// other. A Put Block List makes the blob of them, under the conditions and
// with the metadata of a Put.
//
// The service reads the source as the credential of from may, whichever account
// that is in: by its shared access signature, by its token of Entra ID, or with
// an account key by a signature that is made for it, may read only, and ends in
// an hour. Where a firewall keeps the service from it, that is fs.ErrPermission;
// where it does not find what is there, another emulator's for one, or the URL
// has more than the 2 KiB that it takes, errors.ErrUnsupported. A source in the
// Archive tier is [provider.ErrCold]. If it has tags, the credential of from
// needs the right tags/read, and that of this store tags/write.
func (s *Store) CopyFrom(ctx context.Context, key string, from provider.BlobStore, source provider.Info, o provider.PutOptions) (provider.Info, error) {
	info, err := s.copyFrom(ctx, key, from, source, o)
	if err != nil {
		return provider.Info{}, wrap(ctx, "copy", key, err)
	}
	return info, nil
}

func (s *Store) copyFrom(ctx context.Context, key string, from provider.BlobStore, source provider.Info, o provider.PutOptions) (provider.Info, error) {
	origin, fromKey, ok := provider.Located[*Store](from, source.Key)
	if !ok {
		return provider.Info{}, fmt.Errorf("the source is no container of Blob Storage: %w", errors.ErrUnsupported)
	}
	w, err := s.begun(ctx, key, o)
	if err != nil {
		return provider.Info{}, err
	}
	if checkKey(fromKey) != nil || !isETag(source.Version) {
		return provider.Info{}, fmt.Errorf("source %q: %w", source.Key, provider.ErrNotFound)
	}
	c := &copying{write: w, origin: origin, key: fromKey}
	return remote.Copy(source, func() (provider.Info, error) { return c.described(ctx, source.Version, o) })
}

// A copying is the write of one CopyFrom, and the version that it copies.
type copying struct {
	*write
	origin *Store
	key    string // at origin
	source found
	id     string // of the version, if it is not the present one
}

// described looks at the source, and copies what it found.
func (c *copying) described(ctx context.Context, version provider.Version, o provider.PutOptions) (_ provider.Info, err error) {
	if c.source, c.id, err = c.origin.version(ctx, c.key, version); err != nil {
		return provider.Info{}, fmt.Errorf("look at the source: %w", err)
	}
	if err := remote.CheckCopy(o.SHA256, c.source.SHA256); err != nil {
		return provider.Info{}, err
	}
	if c.source.cold {
		return provider.Info{}, fmt.Errorf("the source is in the Archive tier; Warm brings it back in some hours: %w", provider.ErrCold)
	}
	if o.Meta == nil {
		c.o.Meta = c.source.Meta
	}
	if err := c.takeTags(ctx); err != nil {
		return provider.Info{}, err
	}
	return c.committed(ctx, c.source.Size, func(attempt int) ([]string, [32]byte, error) {
		ids, err := c.blocks(ctx, attempt)
		return ids, c.source.SHA256, err
	})
}

// takeTags gives the write the tags of the source, which blocks do not bring
// along. Whoever may read a blob learns how many it has, and only if it has
// any they are asked for.
func (c *copying) takeTags(ctx context.Context) error {
	c.tags = nil // of what was there before
	if c.source.tags == 0 {
		return nil
	}
	client, err := c.origin.blobOf(c.key, c.id)
	if err == nil {
		c.tags, err = tagsOf(ctx, client)
	}
	switch {
	case isMissing(err):
		return fmt.Errorf("%w: %w", remote.ErrMoved, err)
	case err != nil:
		return fmt.Errorf("tags of the source: %w", err)
	}
	return nil
}

// blocks has the service read the source, and returns the names of the blocks.
// A blob without content has none.
func (c *copying) blocks(ctx context.Context, attempt int) ([]string, error) {
	each := remote.PartSize(c.source.Size, c.s.copyPart, maxParts)
	ids := make([]string, remote.Parts(c.source.Size, each))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(c.s.c.Concurrency)
	for i := range ids {
		ids[i] = c.blockID(attempt, i)
		g.Go(func() error {
			off := int64(i) * each
			return c.block(ctx, ids[i], blob.HTTPRange{Offset: off, Count: min(each, c.source.Size-off)})
		})
	}
	return ids, g.Wait()
}

func (c *copying) block(ctx context.Context, id string, part blob.HTTPRange) error {
	url, token, err := c.origin.readableAt(ctx, c.key, c.id)
	if err != nil {
		return fmt.Errorf("source: %w", err)
	}
	in := &blockblob.StageBlockFromURLOptions{Range: part, CopySourceAuthorization: token, CPKInfo: c.s.c.cpk(), CPKScopeInfo: c.s.c.scope(),
		SourceModifiedAccessConditions: &blob.SourceModifiedAccessConditions{SourceIfMatch: etagOf(c.source.Version)}}
	if k := c.origin.c.cpk(); k != nil {
		in.SourceCustomerProvidedKey = &blob.SourceCPKInfo{SourceEncryptionAlgorithm: k.EncryptionAlgorithm,
			SourceEncryptionKey: k.EncryptionKey, SourceEncryptionKeySHA256: k.EncryptionKeySHA256}
	}
	if _, err = c.blob().StageBlockFromURL(ctx, id, url, in); err != nil {
		return c.unread(ctx, answered(err))
	}
	return nil
}

// unread says what it means that the service has not read the source.
func (c *copying) unread(ctx context.Context, err error) error {
	switch {
	case codeOf(err) == bloberror.SourceConditionNotMet:
		return fmt.Errorf("%w: %w", remote.ErrMoved, err)
	case codeOf(err) != bloberror.CannotVerifyCopySource:
		return fmt.Errorf("block: %w", err)
	case statusOf(err) == http.StatusNotFound:
		now, headErr := c.origin.head(ctx, c.key, c.id)
		if isMissing(headErr) || headErr == nil && now.Version != c.source.Version {
			return fmt.Errorf("%w: %w", remote.ErrMoved, err)
		}
		if headErr != nil {
			return fmt.Errorf("source: %w", err)
		}
		return fmt.Errorf("the service does not find the source, which is there: %w: %w", errors.ErrUnsupported, err)
	}
	return fmt.Errorf("source: %w", err)
}

// readableAt is a URL by which the service can read a blob, or a version of
// it, and the token that goes with it, if it takes one.
func (s *Store) readableAt(ctx context.Context, key, id string) (url string, token *string, err error) {
	client, err := s.blobOf(key, id)
	if err != nil {
		return "", nil, err
	}
	url = client.URL() // which has the SAS of the Config in it
	switch {
	case s.key != nil:
		signature, err := s.signed(key, id, time.Now().Add(readable))
		if err != nil {
			return "", nil, err
		}
		mark := "?"
		if strings.Contains(url, "?") {
			mark = "&"
		}
		url += mark + signature
	case s.c.Credential != nil:
		t, err := s.c.Credential.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{"https://storage.azure.com/.default"}})
		if err != nil {
			return "", nil, fmt.Errorf("a token: %w", err)
		}
		token = pointer("Bearer " + t.Token)
	}
	if len(url) > maxSource {
		return "", nil, fmt.Errorf("its URL has %d bytes, and the service takes %d: %w", len(url), maxSource, errors.ErrUnsupported)
	}
	return url, token, nil
}

// signed lets its holder read the blob until then. For one that is not the
// present version it is a signature for the container: azblob 1.8.0 does not
// sign the ID of a version.
func (s *Store) signed(key, id string, until time.Time) (string, error) {
	v := sas.BlobSignatureValues{ContainerName: s.c.Container, BlobName: key, Permissions: "r", ExpiryTime: until.UTC(), Protocol: sas.ProtocolHTTPS}
	if id != "" {
		v.BlobName = ""
	}
	if strings.HasPrefix(s.client.URL(), "http://") {
		v.Protocol = sas.ProtocolHTTPSandHTTP
	}
	q, err := v.SignWithSharedKey(s.key)
	if err != nil {
		return "", fmt.Errorf("sign for it: %w", err)
	}
	return q.Encode(), nil
}

// sharedKey is the account key of the Config, wherever that has it, or nil.
func (c *Config) sharedKey() (*container.SharedKeyCredential, error) {
	account, key := c.Account, c.AccountKey
	for part := range strings.SplitSeq(c.ConnectionString, ";") {
		switch name, value, _ := strings.Cut(part, "="); name {
		case "AccountName":
			account = value
		case "AccountKey":
			key = value
		}
	}
	if key == "" {
		return nil, nil
	}
	k, err := container.NewSharedKeyCredential(account, key)
	if err != nil {
		return nil, errors.New("azure: Config.AccountKey: not in base64")
	}
	return k, nil
}
