#!/bin/bash
# Guests under load move between monitors; monitors are killed, stalled, lied
# to. migrate.sh [ROUNDS]: with a number, as many random moves and kills
# instead (test-long).
set -u
cd "$(dirname "$0")/.."
command -v python3 >/dev/null || { echo "skip migrate: no python3"; exit 0; }
build/sublet image create tiny >/dev/null || exit 1
exec python3 test/migrate.py "$@"
