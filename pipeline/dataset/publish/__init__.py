"""Publishing a dataset on a hub: what leaves, its card and its Croissant metadata, and the push itself."""
