"""`python -m streams` is `headrace`."""

from streams.cli.main import main

if __name__ == "__main__":
    main()
