"""`python -m sisock` is the command line."""

from sisock.cli import main

if __name__ == "__main__":
    main()
