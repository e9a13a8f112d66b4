"""`python -m itlens`: the command line without its console script."""

from itlens.cli import main

if __name__ == "__main__":
    main()
