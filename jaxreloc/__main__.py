"""`python -m jaxreloc` is the `jaxreloc` command, which ends in one line from the start."""

from jaxreloc import interrupts


def main() -> None:
    """The entry point of both."""
    interrupts.install()
    from jaxreloc.cli.main import main as run

    run()


if __name__ == "__main__":
    main()
