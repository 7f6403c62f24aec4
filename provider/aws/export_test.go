package aws

// CopyInPartsOf makes CopyFrom copy in parts of so many bytes.
func (s *Store) CopyInPartsOf(n int64) { s.copyPart = n }
