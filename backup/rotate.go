package backup

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-go/holdfast/provider"
)

// RecipientInfo is one whom the keys of a repository are wrapped to.
type RecipientInfo struct {
	Generation int    `json:"generation"` // of the keys, 1 for those that Init made
	Type       string `json:"type"`       // of the stanza: "age", or the scheme given to KMSRecipients
	Recipient  string `json:"recipient"`  // fingerprint
}

// Recipients lists whom the present generation of the keys is wrapped to:
// each can read everything in the repository, of earlier generations too.
func (r *Repository) Recipients(ctx context.Context) ([]RecipientInfo, error) {
	r, err := r.current(ctx)
	if err != nil {
		return nil, fmt.Errorf("recipients: %w", err)
	}
	var out []RecipientInfo
	for _, s := range r.keys.stanzas() {
		out = append(out, r.keys.info(s))
	}
	return out, nil
}

func (k *keys) info(s Stanza) RecipientInfo {
	return RecipientInfo{Generation: k.generation, Type: s.Type, Recipient: s.Recipient}
}

// OpenedBy unwraps the keys with one identity and tells which of
// [Repository.Recipients] it is: the proof that the repository can be opened
// with what is at hand at the standby, say. [ErrNoIdentity] if it is none of
// them; the errors of the identity, such as those of a key management
// service that does not answer, are in the chain.
func (r *Repository) OpenedBy(ctx context.Context, id Identity) ([]RecipientInfo, error) {
	r, err := r.current(ctx)
	if err == nil {
		ring := Keyring{Identities: []Identity{id}}
		if source, ok := r.c.restricted(); ok {
			err = ring.obeys(source)
		}
		var out []RecipientInfo
		var problems []error
		for _, s := range r.keys.stanzas() {
			if err != nil {
				break
			}
			root, unwrapErr := ring.unwrap(ctx, []Stanza{s}, r.keys.isRoot)
			clear(root)
			if unwrapErr == nil {
				out = append(out, r.keys.info(s))
			} else {
				problems = append(problems, unwrapErr)
			}
		}
		if err == nil && len(out) > 0 {
			return out, nil
		}
		err = errors.Join(append([]error{err}, problems...)...)
	}
	return nil, fmt.Errorf("opened by: %w", err)
}

// isRoot recognises the root of the present generation.
func (k *keys) isRoot(root []byte) bool {
	if k.present != nil {
		return len(root) == 32 && hmac.Equal([]byte(keysMAC(root, k.present.line)), []byte(k.present.mac))
	}
	_, line, mac, err := decodeFormat(k.encoded)
	return err == nil && len(root) == 32 && hmac.Equal([]byte(formatMAC(root, line)), []byte(mac))
}

// AddRecipients wraps the keys to further recipients, beside those there are.
// They can then read everything, of before as well. Nothing is encrypted
// anew. The keyring's identities unwrap the keys for it.
//
// Of two processes that change the recipients at once one succeeds; the other
// gets [provider.ErrConflict], has changed nothing, and repeats.
func (r *Repository) AddRecipients(ctx context.Context, rs ...Recipient) error {
	err := r.change(ctx, rs, func(roots [][]byte, present []Stanza) ([]byte, []Stanza, error) {
		root := roots[len(roots)-1]
		added, err := Keyring{Recipients: rs}.wrap(ctx, root)
		if err != nil {
			return nil, nil, err
		}
		kept := slices.DeleteFunc(slices.Clone(present), func(s Stanza) bool {
			return slices.ContainsFunc(added, func(a Stanza) bool { return a.Type == s.Type && a.Recipient == s.Recipient && unmistakable(s) })
		})
		all := append(kept, added...)
		for _, s := range all {
			if s.Type == unprotectedStanza && len(all) > 1 {
				return nil, nil, errors.New("the key is stored in the clear, so recipients beside Unprotected protect nothing; Rotate to them")
			}
		}
		if len(all) > maxStanzas {
			return nil, nil, fmt.Errorf("%d recipients, at most %d are possible", len(all), maxStanzas)
		}
		return root, all, nil
	})
	if err != nil {
		return fmt.Errorf("add recipients: %w", err)
	}
	return nil
}

// unmistakable reports whether the fingerprint of a stanza is of one recipient
// only: that of a passphrase or of an SSH key is not.
func unmistakable(s Stanza) bool {
	return s.Type != ageStanza || strings.HasPrefix(s.Recipient, "age1")
}

// Rotate makes new keys for whatever is written from now on and wraps them to
// exactly the given recipients, of which one must match an identity of the
// keyring. It is how a recipient is removed: by being left out. Nothing is
// encrypted anew. What he could read before, he can read for ever, if he gets
// at the store; and since chunk ids and the index keep their keys, he can see
// of later points what maintenance sees, and confirm content he knows. Later
// content and names he cannot read. To be rid of that, too, make a repository
// anew and back up into it.
//
// Processes that have the repository open use the new keys from their next
// call on. A backup that is running, and a [Log] that is open, go on under
// the old ones; get the Log anew.
//
// Of two processes that change the recipients at once one succeeds; the other
// gets [provider.ErrConflict], has changed nothing, and repeats.
func (r *Repository) Rotate(ctx context.Context, rs ...Recipient) error {
	err := r.change(ctx, rs, func([][]byte, []Stanza) ([]byte, []Stanza, error) {
		root := make([]byte, 32)
		rand.Read(root)
		stanzas, err := Keyring{Recipients: rs}.wrap(ctx, root)
		if err != nil {
			return nil, nil, err
		}
		got, err := r.c.Keyring.unwrap(ctx, stanzas, func(b []byte) bool { return bytes.Equal(b, root) })
		clear(got)
		if err != nil {
			return nil, nil, fmt.Errorf("the keyring could not open the new keys: %w", err)
		}
		return root, stanzas, nil
	})
	if err != nil {
		return fmt.Errorf("rotate keys: %w", err)
	}
	return nil
}

// change makes the next generation. next says what its root is, and whom that
// is wrapped to.
func (r *Repository) change(ctx context.Context, rs []Recipient, next func(roots [][]byte, present []Stanza) (root []byte, stanzas []Stanza, err error)) error {
	r, err := r.current(ctx)
	if err == nil {
		err = r.readable()
	}
	if err != nil {
		return err
	}
	if source, ok := r.c.restricted(); ok {
		if err := (Keyring{Recipients: rs}).obeys(source); err != nil {
			return err
		}
	}
	k, roots, err := openRoots(ctx, r.c)
	defer func() {
		for _, root := range roots {
			clear(root)
		}
	}()
	if err != nil {
		return err
	}
	if len(roots) >= maxGenerations {
		return fmt.Errorf("there are %d generations already", len(roots))
	}
	root, stanzas, err := next(roots, k.stanzas())
	if err != nil {
		return err
	}
	defer clear(root)
	b, err := newGeneration(k.format.ID, time.Now(), roots, root, stanzas)
	if err != nil {
		return err
	}
	if err := r.putGeneration(ctx, keysKey(len(roots)+1), b, k.authorities[len(roots)]); err != nil {
		return err
	}
	r.c.Logger.Info("recipients changed", "generation", len(roots)+1, "recipients", len(stanzas))
	if _, err := r.current(ctx); err != nil {
		return fmt.Errorf("generation %d is made, but cannot be opened: %w", len(roots)+1, err)
	}
	return nil
}

// putGeneration creates a keys object: from then on the generation exists.
func (r *Repository) putGeneration(ctx context.Context, key string, b []byte, before ed25519.PublicKey) error {
	_, err := provider.PutOnce(ctx, r.c.Store, key, b, r.c.put())
	switch {
	case err == nil:
		return nil
	case !errors.Is(err, provider.ErrConflict):
		return fmt.Errorf("put %s: whether it exists is not known, ask for the recipients: %w", key, err)
	}
	other, _, readErr := provider.ReadAll(ctx, r.c.Store, key, maxFormat)
	if o, decodeErr := decodeGeneration(other); readErr == nil && (decodeErr != nil || !o.follows(before)) {
		return fmt.Errorf("put %s: %w: its place is taken by what no holder of the keys has made; Repair removes it", key, ErrDamaged)
	}
	return fmt.Errorf("put %s: somebody else has changed the recipients at the same time, nothing was done; look at them and repeat: %w", key, err)
}

// storedGenerations lists the genuine keys objects in the store that lead up
// to the present one, for a replica.
func (r *Repository) storedGenerations(ctx context.Context) ([]provider.Info, error) {
	if r.keys.present == nil {
		return nil, nil
	}
	var out []provider.Info
	for info, err := range r.c.Store.List(ctx, keysPrefix, provider.ListOptions{}) {
		if err != nil {
			return nil, err
		}
		b, err := r.genuine(ctx, info)
		if err != nil {
			return nil, err
		}
		if b != nil {
			out = append(out, provider.Info{Key: info.Key, Size: int64(len(b)), SHA256: sha256.Sum256(b), Version: beneath(r.c.Store, info.Key)})
		}
	}
	return out, nil
}

// genuine reads what lies below keys/ and returns it if it is a generation, or
// nil: one of those up to the present, or made since this process looked.
func (r *Repository) genuine(ctx context.Context, info provider.Info) ([]byte, error) {
	g, ok := generationOf(info.Key)
	if !ok || info.Size > maxFormat {
		return nil, nil
	}
	if g > r.keys.generation {
		return r.successor(ctx, g)
	}
	b, _, err := provider.ReadAll(ctx, r.c.Store, info.Key, maxFormat)
	if isDamage(err) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	if g == r.keys.generation {
		if bytes.Equal(b, r.keys.keysEncoded()) {
			return b, nil
		}
		return nil, nil
	}
	if r.rightKeys(g)(b) != nil {
		return nil, nil
	}
	return b, nil
}

// wrongKeys compares what lies below keys/ with the generations that are
// known: none are objects that are no generation, missing are earlier
// generations without an object, and lost tells that the present one is not
// there. Whoever reads needs no earlier one, as its root is in the later ones;
// a sealed writer follows them one by one.
func (r *Repository) wrongKeys(ctx context.Context) (none []string, missing []int, lost bool, err error) {
	lost = r.keys.present != nil
	there := map[string]bool{}
	for info, err := range r.c.Store.List(ctx, keysPrefix, provider.ListOptions{}) {
		if err != nil {
			return nil, nil, false, err
		}
		there[info.Key] = true
		b, err := r.genuine(ctx, info)
		switch {
		case err != nil:
			return nil, nil, false, err
		case b == nil:
			none = append(none, info.Key)
		case info.Key == keysKey(r.keys.generation):
			lost = false
		}
	}
	for g := 2; g < r.keys.generation; g++ {
		if !there[keysKey(g)] {
			missing = append(missing, g)
		}
	}
	return none, missing, lost, nil
}

// rightKeys returns what proves that bytes are the object of an earlier
// generation.
func (r *Repository) rightKeys(g int) func([]byte) error {
	return func(b []byte) error {
		o, err := decodeGeneration(b)
		if err == nil && (o.Generation != g || !o.follows(r.keys.authorities[g-1]) || !bytes.Equal(o.Authority, r.keys.authorities[g]) ||
			r.keys.keysMACs[g] != nil && !hmac.Equal([]byte(keysMACBy(r.keys.keysMACs[g], o.line)), []byte(o.mac))) {
			err = fmt.Errorf("%w: it is no generation of the keys", ErrDamaged)
		}
		return err
	}
}

// keysCopy finds the object of an earlier generation in the headers of what was
// written while it was the present one; nil if nothing was.
func (r *Repository) keysCopy(ctx context.Context, g int) ([]byte, error) {
	for _, prefix := range []string{pointPrefix, indexPrefix, sessionPrefix, kindMeta + "/", kindData + "/"} {
		for info, err := range r.c.Store.List(ctx, prefix, provider.ListOptions{}) {
			if err != nil {
				return nil, fmt.Errorf("list %s: %w", prefix, err)
			}
			h, _, err := readHeader(ctx, r.c.Store, info)
			if isDamage(err) {
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("get %s: %w", info.Key, err)
			}
			if r.rightKeys(g)(h.Keys) == nil {
				return h.Keys, nil
			}
		}
	}
	return nil, nil
}

// successor reads a generation after the present one, by what leads to it.
func (r *Repository) successor(ctx context.Context, generation int) (b []byte, err error) {
	authority := r.keys.authorities[r.keys.generation]
	for g := r.keys.generation + 1; g <= generation; g++ {
		if b, _, err = provider.ReadAll(ctx, r.c.Store, keysKey(g), maxFormat); isDamage(err) {
			return nil, nil
		} else if err != nil {
			return nil, err
		}
		o, err := decodeGeneration(b)
		if err != nil || o.Generation != g || !o.follows(authority) {
			return nil, nil
		}
		authority = o.Authority
	}
	return b, nil
}

// generations is the part of Check about keys objects.
func (c *checker) generations(ctx context.Context) error {
	none, missing, lost, err := c.r.wrongKeys(ctx)
	if err != nil {
		return err
	}
	for _, g := range missing {
		c.problem(keysKey(g), "is missing; sealed writers whose credentials are older do not learn of later generations")
	}
	for _, key := range none {
		if g, ok := generationOf(key); ok && g < c.r.keys.generation {
			missing = append(missing, g)
		}
		c.problem(key, "is no generation of the keys").Repairable = true
	}
	for _, g := range missing {
		known, err := c.r.keysCopy(ctx, g)
		if err != nil {
			return err
		}
		c.problem(keysKey(g), "").Repairable = known != nil // else a replica may have it
	}
	if lost {
		c.problem(keysKey(c.r.keys.generation), "is not what it was made as, or missing").Repairable = true
	}
	return nil
}
