"""`python -m anomreason`, and the command `anomreason`."""

import os
import signal


def main() -> None:
    """Ends at once and quietly on Ctrl-C, from the first import on."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until our own handler is there: nothing has begun yet
    if os.getpid() == 1:  # in a container: there SIGTERM does nothing by itself, also while a model is loaded
        signal.signal(signal.SIGTERM, lambda number, _: os._exit(128 + number))
    from anomreason.cli import main as command

    command()


if __name__ == "__main__":
    main()
