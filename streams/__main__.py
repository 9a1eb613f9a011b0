"""`python -m streams` is `headrace`."""

from streams.cli import main

if __name__ == "__main__":
    main()
