"""`python -m anomreason`, and the command `anomreason`."""

import signal


def main() -> None:
    """Ends at once and quietly on Ctrl-C, from the first import on."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until our own handler is there: nothing has begun yet
    from anomreason.cli import main as command

    command()


if __name__ == "__main__":
    main()
