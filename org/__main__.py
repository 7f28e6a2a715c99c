"""`python -m org …` is the `org` command."""

from org.cli.main import main

if __name__ == "__main__":
    main()
