"""
`python -m tests.crash`: the long kill loops, on both engines.

Exit code 1 when an accepted message was lost or another promise broken. The same seed gives the same victims and the same
mail; the moments depend on the machine.
"""

import argparse
import random
import sys

from tests.crash import killing, stopping


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.crash", description="Kill the gateway under load; no accepted message may be lost."
    )
    parser.add_argument("--kills", type=int, default=200, help="SIGKILLs per engine (default 200)")
    parser.add_argument("--messages", type=int, default=20_000, help="messages per engine, at least (default 20000)")
    parser.add_argument("--engine", choices=["sqlite", "postgresql", "both"], default="both")
    parser.add_argument("--stops", type=int, default=50, help="SIGTERMs per engine, in a run of their own (default 50)")
    parser.add_argument("--seed", type=int, default=None, help="repeat a run")
    asked = parser.parse_args()
    seed = random.SystemRandom().randrange(1_000_000) if asked.seed is None else asked.seed
    engines = ["sqlite", "postgresql"] if asked.engine == "both" else [asked.engine]
    is_good = True
    for engine in engines:
        if asked.kills:
            report = killing.run(killing.Plan(engine=engine, kills=asked.kills, messages=asked.messages, seed=seed))
            print("\n".join(report.lines()), flush=True)
            is_good = is_good and not report.complaints
        if asked.stops:
            stops = stopping.run(engine, asked.stops, seed)
            print("\n".join(stops.lines()), flush=True)
            is_good = is_good and not stops.complaints
    print("No accepted message was lost." if is_good else "FAILED: a promise was broken, see above.")
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
