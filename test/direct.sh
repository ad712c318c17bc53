#!/bin/bash
# Small user programs (test/direct/) in a guest with two CPUs, whose user code
# is run directly, by the translator, and by the interpreter: the output of each
# must be the same, and what it checks must hold. direct.sh [CASE...]. Prints
# "ok NAME" or "not ok NAME" lines.
set -u
cd "$(dirname "$0")/.."
sublet=${SUBLET:-build/sublet}
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
# The interpreter is too slow for all of them.
interpreted="faults strings alignment registers ways 32-bit cpuid tables"
interpreted+=" selectors signal-state bases flags self flip steps breakpoints"
interpreted+=" hardware"

# Without the red zone, as some push and pop in the midst of C.
gcc -O1 -mno-red-zone -static -pthread -Isrc -o "$t/cases" test/direct/*.c ||
	exit 1

run() { # NAME CASES OPTION...: output in $t/NAME
	name=$1 cases=$2
	shift 2
	timeout 300 "$sublet" run tiny --net none --engine soft --memory 192M \
		--cpus 2 "$@" -- "cat >/tmp/c; chmod +x /tmp/c; /tmp/c $cases" \
		<"$t/cases" >"$t/$name" 2>"$t/$name.err"
}

section() { # FILE CASE
	grep -E "^($2: |(not )?ok $2\$)" "$t/$1"
}

compare() { # NAME
	while read -r name; do
		if section "$1" "$name" | grep -q "^ok $name\$" &&
			diff <(section translator "$name") \
				<(section "$1" "$name") >"$t/diff"; then
			echo "ok $name, $1"
		else
			echo "not ok $name, $1"
			section "$1" "$name" | grep 'not so' | sort | uniq -c
			head -20 "$t/diff"
		fi
	done < <(sed -nE 's/^(not )?ok //p' "$t/$2")
}

run translator "$*" --direct off
run direct "$*" --direct always --trace exits --trace-file "$t/exits"
run interpreter "${*:-$interpreted}" --interpret
compare translator translator
compare direct translator
compare interpreter interpreter

# It did run directly, and stopped there for all reasons there are.
for stat in direct direct_call direct_fault direct_trap direct_kick; do
	n=$(awk -v s=$stat '$2 == s {print $3}' "$t/exits")
	[ $# -gt 0 ] || if [ "${n:-0}" -gt 10 ]; then
		echo "ok $stat is counted"
	else
		echo "not ok $stat: ${n:-none}"
	fi
done
