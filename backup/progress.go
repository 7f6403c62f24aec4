package backup

import "time"

// Progress says how far a backup or a restore has come.
type Progress struct {
	Items  int64 // items done
	Bytes  int64 // content of those items
	Read   int64 // bytes read from the target, or written to the destination
	Stored int64 // bytes uploaded to the store

	// TotalItems and TotalBytes are how many items, with how much content,
	// there will be in the end; zero if that is not known. Of a backup they
	// are those of the parent point, and none in Full mode.
	TotalItems, TotalBytes int64

	Elapsed time.Duration // since the beginning
}

// Done is the part that is done, from 0 to 1; 0 if the whole is not known.
// Bytes and items count alike: many small files take time, too.
func (p Progress) Done() float64 {
	part, of := 0.0, 0.0
	if p.TotalBytes > 0 {
		part, of = part+min(float64(p.Bytes)/float64(p.TotalBytes), 1), of+1
	}
	if p.TotalItems > 0 {
		part, of = part+min(float64(p.Items)/float64(p.TotalItems), 1), of+1
	}
	if of == 0 {
		return 0
	}
	return part / of
}

// Rate is the content done per second, in bytes.
func (p Progress) Rate() float64 {
	if p.Elapsed <= 0 {
		return 0
	}
	return float64(p.Bytes) / p.Elapsed.Seconds()
}

// Remaining estimates how long the rest takes, at the rate there was so far.
// Zero if that cannot be told.
func (p Progress) Remaining() time.Duration {
	done := p.Done()
	if done <= 0 || p.Elapsed <= 0 {
		return 0
	}
	return time.Duration(float64(p.Elapsed) * (1 - done) / done)
}
