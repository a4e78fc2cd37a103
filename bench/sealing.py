"""
`python -m bench.sealing`: what sealing everything that is stored costs, in delivered messages per second and CPU.

Runs the gateway as it is, and with ciphers and keyed hashes taken out (bench/unsealed), in turn, with the same mail.
"""

import argparse
import os
import statistics
import tempfile
from pathlib import Path

from bench.__main__ import Bench, Row

_WITHOUT = str(Path(__file__).parent / "unsealed")


def run(bench: Bench, *, is_sealed: bool) -> dict[str, Row]:
    before = os.environ.get("PYTHONPATH")
    if not is_sealed:
        os.environ["PYTHONPATH"] = _WITHOUT
    try:
        return {"smtp in": bench.gatepost_smtp(), "http in": bench.http_delivered()}
    finally:
        os.environ.pop("PYTHONPATH", None)
        if before is not None:
            os.environ["PYTHONPATH"] = before


def main() -> None:
    parser = argparse.ArgumentParser(description="the gateway with and without sealing")
    parser.add_argument("--count", type=int, default=8_000, help="messages of one run")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="gatepost-bench-"))
    folder.chmod(0o755)
    bench = Bench(folder, arguments.count, 5_000, "")
    found: dict[tuple[str, bool], list[Row]] = {}
    for _ in range(arguments.rounds):
        for is_sealed in (True, False):
            for door, row in run(bench, is_sealed=is_sealed).items():
                found.setdefault((door, is_sealed), []).append(row)
    for door in ("smtp in", "http in"):
        for key in ("delivered_per_s", "cpu_s_per_1000"):
            sealed, plain = (statistics.median(row[key] for row in found[door, is_sealed]) for is_sealed in (True, False))
            print(f"{door}: {key} {sealed:.3f} sealed, {plain:.3f} without: {100 * (sealed / plain - 1):+.1f} %")


if __name__ == "__main__":
    main()
