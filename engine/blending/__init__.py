"""What is served: the transformer blended with neighbours and popularity."""
