#!/bin/sh
# Prints the interpreter that the environment is made with: python3, unless another one here that will do is clearly faster.
# Interpreters of one version differ by a third: those that distributions build are optimised with a profile of their own runs,
# those that pyenv builds are not, unless it was told to. A message costs processor time, nearly all of it in the interpreter.
usable='import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))'
measure='
import time
def work():
    kept, total = {}, 0
    for i in range(20_000):
        kept[str(i)] = (i, i + 1)
        total += len("%d-%s" % (i, kept[str(i)]))
best = 9.0
for _ in range(7):
    began = time.process_time()
    work()
    best = min(best, time.process_time() - began)
print(int(best * 1e6))'
best='' fastest=0
for name in python3 python3.14 python3.13 python3.12 python3.11 /usr/local/bin/python3 /usr/bin/python3; do
  path=$(command -v "$name") && "$path" -c "$usable" 2>/dev/null || continue
  took=$("$path" -c "$measure") || continue
  # the first that will do, then whatever takes less than seven eighths of the time
  if [ -z "$best" ] || [ $((took * 8)) -lt $((fastest * 7)) ]; then best=$path fastest=$took; fi
done
[ -n "$best" ] || { echo "Python 3.11 or later is needed; name one with make PYTHON=..." >&2; exit 1; }
echo "$best"
