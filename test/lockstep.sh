#!/bin/bash
# Translated code against the interpreter, step by step (--lockstep): guest
# programs, and how a Debian kernel begins. lockstep.sh [N]: instructions of
# the kernel to check (2M).
set -u
cd "$(dirname "$0")/.."
n=${1:-2M}
sublet=${SUBLET:-build/sublet}
guests=${GUESTS:-build/guest}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

ok() { # NAME CONDITION...: a test(1) expression
	name=$1
	shift
	if [ "$@" ]; then
		echo "ok $name"
	else
		echo "not ok $name"
		head -40 "$tmp/err"
	fi
}

for name in boot code32 exceptions interrupts modes paging smc syscalls; do
	timeout 120 "$sublet" run --kernel "$guests/$name" --memory 64M \
		--console none --debug-console 0xe9 --debug-exit 0xf4 \
		--lockstep 1G >"$tmp/out" 2>"$tmp/err" </dev/null
	rc=$?
	cmp -s "$tmp/out" "test/guest/expected/$name" || rc=differs
	ok "$name in lock step" "$rc" = 1
done

timeout 500 "$sublet" run tiny --lockstep "$n" -- 'echo up' >"$tmp/out" \
	2>"$tmp/err" </dev/null
ok "the first $n instructions of tiny in lock step" \
	"$(cat "$tmp/out") $(grep -c 'compared, no difference' "$tmp/err")" = \
	'up 1'

"$sublet" run tiny --lockstep 1M --cpus 2 -- true >"$tmp/out" 2>"$tmp/err"
ok 'lock step with two CPUs is refused' \
	"$? $(grep -c 'lock step needs one CPU' "$tmp/err")" = '125 1'
