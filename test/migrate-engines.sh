#!/bin/bash
# A guest under load moves from engine to engine and back, live:
# migrate-engines.sh [ENGINE...] (kvm soft kvm), where these engines work; in
# the lab by test/lab.sh. The guest's own checks must find nothing wrong.
set -u
cd "$(dirname "$0")/.."
s=${B:-build}/sublet kernel=${KERNEL:-$LAB_KERNEL/vmlinux}
t=$(mktemp -d)
export SUBLET_RUNTIME_DIR=$t/run
mkdir -m 700 "$t/run" "$t/root"
trap 'kill $(jobs -p) 2>/dev/null; wait 2>/dev/null; rm -rf "$t"' EXIT
[ $# -gt 0 ] || set -- kvm soft kvm

fail() {
	echo "not ok $1"
	tail -n 5 "$t"/*.err "$t"/*.console
	exit 1
}

# The last LOAD line's number on a console, or nothing.
last() { sed -n 's/^LOAD \([0-9]*\) .*/\1/p' "$1" 2>/dev/null | tail -1; }

# Waits until the guest has gone on by so many lines.
goes_on() { # CONSOLE LINES
	local from=$(last "$1")
	for _ in $(seq 1200); do
		[ "$(last "$1")" ] && [ "$(last "$1")" -ge $((${from:-0} + $2)) ] &&
			return
		sleep 0.1
	done
	fail "the guest stands still ($1)"
}

if [ -n "${LOAD_INITRD:-}" ]; then
	cp "$LOAD_INITRD" "$t/initrd"
else
	gcc -O2 -static -pthread -o "$t/root/init" test/load.c || exit 1
	(cd "$t/root" && find . | cpio -o -H newc --quiet) >"$t/initrd"
fi
$s run --engine "$1" --kernel "$kernel" --initrd "$t/initrd" --memory 128M \
	--append "console=ttyS0 quiet load.mb=4 load.rate=10 ${APPEND:-}" \
	--net none --name at0 --console "file=$t/at0.console" 2>"$t/at0.err" &
goes_on "$t/at0.console" 2
n=0
from=$1
shift
for to; do
	n=$((n + 1))
	$s receive "unix:$t/place$n" --engine "$to" --name at$n \
		--console "file=$t/at$n.console" 2>"$t/at$n.err" &
	for _ in $(seq 100); do [ -S "$t/place$n" ] || sleep 0.1; done
	before=$(last "$t/at$((n - 1)).console")
	told=$($s migrate at$((n - 1)) "unix:$t/place$n" --timeout 60s \
		--max-downtime 500ms 2>&1) || fail "$from to $to: $told"
	goes_on "$t/at$n.console" 3
	grep -q BAD "$t"/*.console && fail "$from to $to: $(grep BAD "$t"/*.console)"
	first=$(sed -n 's/^LOAD \([0-9]*\) .*/\1/p' "$t/at$n.console" | head -1)
	[ "$first" -ge "$before" ] || fail "$from to $to went back in time"
	$s ps | grep -q "^at$n .* $to " || fail "at$n does not run on $to"
	echo "ok a guest under load from $from to $to: ${told#*in }"
	from=$to
done
$s stop --now at$n
wait
