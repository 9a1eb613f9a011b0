"""The command line: a few lines a command; what it does is imported when it runs, so that --help answers at once."""
