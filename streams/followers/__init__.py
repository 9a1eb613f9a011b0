"""topics -> what a role knows of the world, each kept up to date by a thread."""
