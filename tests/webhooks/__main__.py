"""
`python -m tests.webhooks --events 10000 --kills 50`: no event is lost and each message's come in order, whoever is killed.

The consumer is down for the first hour (of clocks that are moved on). Exit code 1 when a promise was broken.
"""

import argparse
import dataclasses
import json
import random
import sys

from tests.webhooks import killing


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.webhooks", description=__doc__)
    parser.add_argument("--events", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--database-url", default="", help="of an empty PostgreSQL database; default SQLite")
    parser.add_argument("--seed", type=int, default=None, help="repeat a run")
    asked = parser.parse_args()
    seed = random.SystemRandom().randrange(1_000_000) if asked.seed is None else asked.seed
    report = killing.run(asked.events, asked.kills, seed, asked.database_url)
    print(json.dumps(dataclasses.asdict(report), indent=2))
    return 1 if report.complaints else 0


if __name__ == "__main__":
    sys.exit(main())
