package local

// NewSteppedSnapshotter calls step after each step that a crash could follow.
var NewSteppedSnapshotter = newSnapshotter
