package azure

// CopyInPartsOf makes CopyFrom copy in blocks of so many bytes.
func (s *Store) CopyInPartsOf(n int64) { s.copyPart = n }
