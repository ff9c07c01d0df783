"""`python -m jaxreloc` is the `jaxreloc` command."""

from jaxreloc.cli.main import main

if __name__ == "__main__":
    main()
