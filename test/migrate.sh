#!/bin/bash
# Guests under load move between monitors; monitors are killed, stalled, lied
# to; then ten random rounds. migrate.sh ROUNDS: as many random rounds and
# nothing else (test-long). SEED=N repeats them, VERBOSE=1 tells what each does.
set -u
cd "$(dirname "$0")/.."
command -v python3 >/dev/null || { echo "skip migrate: no python3"; exit 0; }
build/sublet image create tiny >/dev/null || exit 1
exec python3 test/migrate.py "$@"
