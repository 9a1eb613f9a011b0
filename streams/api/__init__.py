"""HTTP: the edge, its checks and its documents."""
