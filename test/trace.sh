#!/bin/bash
# The traces of sublet run, for those who work on the translator.
set -u
cd "$(dirname "$0")/.."
sublet=${SUBLET:-build/sublet}
guests=${GUESTS:-build/guest}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

check() { # NAME PATTERN FILE: a line that matches
	if grep -qE -- "$2" "$3"; then
		echo "ok $1"
	else
		echo "not ok $1: no line like '$2'"
		head -5 "$3"
	fi
}

guest() { # OPTIONS...
	timeout 120 "$sublet" run --engine soft --kernel "$guests/smc" \
		--memory 64M --console none --debug-console 0xe9 \
		--debug-exit 0xf4 --trace-file "$tmp/trace" "$@" \
		>"$tmp/out" 2>"$tmp/err" </dev/null
}

guest --trace exits,blocks,code,faults,irqs --no-reboot
check 'a trace of units' '^vCPU 0 unit [0-9a-f]{16}: page .* ns$' "$tmp/trace"
check 'guest code in it' '^	[0-9a-f]{16}  [a-z]+' "$tmp/trace"
check 'host code in it' '^		[0-9a-f]{16}  mov' "$tmp/trace"
check 'exits by reason' '^vCPU 0 out_access +[0-9]+$' "$tmp/trace"
check 'exits by instruction' '^vCPU 0 left out_access +MOV +[0-9]+$' "$tmp/trace"

address=$(sed -n 's/^vCPU 0 unit \([0-9a-f]*\):.*/\1/p' "$tmp/trace" | head -1)
echo "$address T hot_spot" >"$tmp/map"
guest --trace code=hot_spot --trace-symbols "$tmp/map"
check 'code by name' "^vCPU 0 unit $address hot_spot\+0x0:" "$tmp/trace"

"$sublet" run --engine soft --kernel "$guests/smc" --memory 64M --console none \
	--debug-exit 0xf4 --trace perfmap --trace-symbols "$tmp/map" \
	>"$tmp/out" 2>"$tmp/err" </dev/null &
pid=$!
wait $pid
check 'a map for perf' '^[0-9a-f]+ [0-9a-f]+ guest:hot_spot\+0x0$' \
	"/tmp/perf-$pid.map"
rm -f "/tmp/perf-$pid.map"

guest --trace exits,nothing
check 'an unknown trace' "--trace: 'nothing' is none of exits" "$tmp/err"
guest --trace code=nowhere
check 'an unknown name' 'code=nowhere is neither' "$tmp/err"
