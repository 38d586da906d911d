"""``make chaos``: load, faults and an audit, for as long as you like.

    make chaos ARGS="--minutes 10 --seed 7 --setup replicas"

The seed decides what callers do and what breaks; when, the machine decides.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import sys
import tempfile
import warnings
from pathlib import Path

from .conductor import SETUPS, perform


def main() -> None:
    parser = argparse.ArgumentParser(prog="make chaos", description="Load, faults and an audit.")
    parser.add_argument("--minutes", type=float, default=3, help="in all, over the setups")
    parser.add_argument("--seed", type=int, default=None, help="of an earlier run")
    parser.add_argument("--setup", choices=SETUPS, action="append", help="one of them only")
    parser.add_argument("--callers", type=int, default=8)
    parser.add_argument("--keep", type=Path, help="a folder for the databases and logs")
    given = parser.parse_args()
    seed = secrets.randbelow(1_000_000) if given.seed is None else given.seed
    setups = given.setup or SETUPS
    warnings.filterwarnings("ignore", category=DeprecationWarning)  # the SDK, on every call
    sys.stdout.write(f"Seed {seed}, {given.minutes:g} minutes: {', '.join(setups)}.\n")
    sys.stdout.flush()
    failed = False
    with tempfile.TemporaryDirectory() as scratch:
        os.environ.setdefault("XDG_RUNTIME_DIR", scratch)
        for setup in setups:
            folder = (given.keep or Path(scratch)) / setup
            folder.mkdir(parents=True)
            seconds = given.minutes * 60 / len(setups)
            report = asyncio.run(
                perform(setup, folder, seed=seed, seconds=seconds, callers=given.callers)
            )
            sys.stdout.write(f"{report}\n")
            sys.stdout.flush()
            failed |= bool(report.complaints)
    sys.exit(failed)


if __name__ == "__main__":
    main()
