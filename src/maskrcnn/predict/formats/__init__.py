"""One file a format that other programs open: `Instances` of an image, or the lines of a `Journal`, to its files."""
