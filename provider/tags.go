package provider

import "context"

// A Tagger keeps tags of its objects: pairs beside them that the service
// itself knows, whose rules expire or replicate what has a tag, and whose
// policies say who may read it. Unlike Meta they change while the object
// stays. S3 and Azure Blob Storage have them; Cloud Storage has none.
type Tagger interface {
	// Tags tells the tags of the present object of key or, with a Version, of
	// that version: nil if it has none. [ErrNotFound].
	Tags(ctx context.Context, key string, v Version) (map[string]string, error)

	// SetTags gives the object, or that version, these tags in place of all
	// that it had; without any it has none. Content, Version, Meta and
	// retention stay. What Put makes anew has no tags.
	//
	// A store takes up to 10 tags, with keys of 1 to 128 and values of up to
	// 256 characters of [A-Za-z0-9 +-.:=_/] that neither begin nor end with a
	// space. What it cannot keep as given it declines with
	// errors.ErrUnsupported, and changes nothing. [ErrNotFound].
	//
	// Of a store that keeps no versions, an object that is replaced at the
	// same time may get the tags of the one before.
	SetTags(ctx context.Context, key string, v Version, tags map[string]string) error
}
