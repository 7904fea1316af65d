"""One script for each published figure of speed; each runs the peers beside ours."""
