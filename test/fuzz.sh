#!/bin/sh
# Each fuzzer's target a few thousand times, from its seeds in test/fuzz/NAME
# (test-long has the fuzzers themselves).
set -u
top=$PWD
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
cd "$t" || exit 1 # some make files
for f in "$top"/build/*/*_fuzz "$top"/build/*/*/*_fuzz; do
	[ -x "$f" ] || continue
	n=$(basename "$f")
	out=$(timeout 60 "$f" 3000 $(ls "$top/test/fuzz/$n"/* 2>/dev/null) 2>&1)
	rc=$?
	if [ $rc -eq 0 ]; then
		echo "ok $n: $(echo "$out" | tail -1)"
	else
		echo "not ok $n: exit code $rc"
		echo "$out" | tail -5
	fi
done
