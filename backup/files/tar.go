package files

import (
	"archive/tar"
	"fmt"
	"path"
	"strings"

	"github.com/holdfast-go/holdfast/backup"
)

var _ backup.Archiver = (*Target)(nil)

// xattrKey writes the name of an attribute as GNU tar does: the key of a record
// ends at the first equals sign.
var xattrKey = strings.NewReplacer("%", "%25", "=", "%3D")

// TarHeader describes an item as tar does, extended attributes and ACLs
// included (GNU tar restores them with --xattrs and --acls). Sockets and
// devices are left out.
func (t *Target) TarHeader(it backup.Item) (*tar.Header, error) {
	m, err := decodeMeta(it)
	if err != nil {
		return nil, err
	}
	h := &tar.Header{Mode: int64(m.Mode), ModTime: m.ModTime}
	if m.Owner != nil {
		h.Uid, h.Gid = int(m.Owner.User), int(m.Owner.Group)
	}
	switch m.Type {
	case typeFile:
		h.Typeflag = tar.TypeReg
	case typeDir:
		h.Typeflag = tar.TypeDir
	case typeSymlink:
		h.Typeflag, h.Linkname = tar.TypeSymlink, string(m.Link)
	case typeLink:
		h.Typeflag, h.Linkname = tar.TypeLink, string(m.Link)
		if to := h.Linkname; strings.HasPrefix(to, "/") || path.Clean(to) != to || to == ".." || strings.HasPrefix(to, "../") {
			return nil, fmt.Errorf("%q: %w: hard link to %.200q, which is not below the root", it.Path, backup.ErrDamaged, to)
		}
	case typeFIFO:
		h.Typeflag = tar.TypeFifo
	default:
		return nil, nil
	}
	if len(m.Xattrs) > 0 {
		h.PAXRecords = map[string]string{}
		for name, value := range m.Xattrs {
			h.PAXRecords["SCHILY.xattr."+xattrKey.Replace(name)] = string(value)
		}
	}
	return h, nil
}
