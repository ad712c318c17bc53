#!/bin/bash
# Guest programs (test/guest) on one engine, their output against what is
# expected. guest.sh [ENGINE [CPUS]]: soft, one CPU; smp programs get two, on
# the soft engine 16 too.
# GUEST_TIMEOUT is the limit for each in seconds, ONLY a program to run alone.
# On engines whose CPU is not known for sure, lines with ~ are not compared.
set -u
cd "$(dirname "$0")/.."
engine=${1:-soft} smp=${2:-2}
sublet=${SUBLET:-build/sublet}
guests=${GUESTS:-build/guest}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

run() { # NAME CPUS
	timeout "${GUEST_TIMEOUT:-120}" "$sublet" run --engine "$engine" --kernel "$guests/$1" \
		--cpus "$2" --memory 64M --console none --debug-console 0xe9 \
		--debug-exit 0xf4 >"$tmp/out" 2>"$tmp/err" </dev/null
}

check() { # NAME CPUS
	name=$1 cpus=$2 want=test/guest/expected/$1
	run "$name" "$cpus"
	rc=$?
	cp "$want" "$tmp/want"
	[ "$engine" = soft ] || sed -i '/^~/d' "$tmp/out" "$tmp/want"
	if [ $rc -eq 1 ] && cmp -s "$tmp/out" "$tmp/want"; then
		echo "ok $name on $engine, $cpus CPUs"
	else
		echo "not ok $name on $engine, $cpus CPUs (exit code $rc)"
		diff "$tmp/want" "$tmp/out" | head -20
		head -5 "$tmp/err"
	fi
}

for want in test/guest/expected/*; do
	name=${want##*/}
	[ "${ONLY:-$name}" = "$name" ] || continue
	case $name in
	smp*)
		check "$name" "$smp"
		[ "$engine" != soft ] || check "$name" 16
		;;
	*) check "$name" 1 ;;
	esac
done
