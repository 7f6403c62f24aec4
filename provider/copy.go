package provider

import "context"

// A Copier makes its service copy an object that is in a store of the same
// service, so that the bytes do not pass through the caller: within a bucket,
// from bucket to bucket, from region to region.
type Copier interface {
	// CopyFrom stores under key what the object source of another store, or
	// of this one, holds: a [BlobStore.Put] whose body is that content, with
	// what that method says of conditions, of retention, of what is visible
	// and when, and of errors.
	//
	// Of source, Key and Version count; without a Version the present one is
	// copied, and Size is what the listing said. It is that version or no
	// other: [ErrNotFound] if from does not have it any more, and nothing is
	// changed.
	//
	// What from keeps of the object goes along: its SHA256, its tags if the
	// service has any (see [Tagger]), and its Meta unless o.Meta is not nil,
	// which replaces it. Retention does not. A o.SHA256 other than the one
	// that from keeps is [ErrCorrupt]. The bytes are as safe as the service
	// is: nobody has read them. Who must know reads the copy.
	//
	// errors.ErrUnsupported, and nothing is changed, if from is no store of
	// the same service, or o.SHA256 is given and from keeps none to compare
	// it with. fs.ErrPermission if the credential of this store may not read
	// from, or tags that there are may not be read, or set here: no copy is
	// made without them. In either case the caller can read and put.
	CopyFrom(ctx context.Context, key string, from BlobStore, source Info, o PutOptions) (Info, error)
}

// Located looks through wrappers of a store for the T that holds an object,
// and for the key that it has there: [Sub] puts a prefix before it. A
// [Copier] finds with it where what it is to copy is.
func Located[T BlobStore](s BlobStore, key string) (store T, there string, ok bool) {
	for {
		if t, ok := As[T](s); ok {
			return t, key, true
		}
		p, ok := As[interface {
			BlobStore
			within() (BlobStore, string)
		}](s)
		if !ok {
			return store, "", false
		}
		var prefix string
		s, prefix = p.within()
		key = prefix + key
	}
}
