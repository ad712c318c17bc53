# What the system tests share; "." it. A scratch folder $t, gone at the end
# with the machines of this test, which have names of their own there.
s=build/sublet
t=$(mktemp -d)
export SUBLET_RUNTIME_DIR="$t/rt"
export XDG_CACHE_HOME="${XDG_CACHE_HOME:-$HOME/.cache}"

lib_finish() {
	for l in "$t"/rt/*/lock; do
		[ -s "$l" ] && kill -9 "$(cat "$l")" 2>/dev/null
	done
	rm -rf "$t"
}
trap lib_finish EXIT

check() { # NAME CONDITION...: a test(1) expression
	lib_name=$1
	shift
	if [ "$@" ]; then
		echo "ok $lib_name"
	else
		echo "not ok $lib_name: [ $* ]"
	fi
}

# This exit code, one line on standard error that has these words, nothing on
# standard output.
refuse() { # NAME CODE WORDS COMMAND...
	lib_name=$1 lib_code=$2 lib_words=$3
	shift 3
	timeout 60 "$@" >"$t/out" 2>"$t/err" </dev/null
	lib_rc=$?
	if [ $lib_rc -eq "$lib_code" ] && [ "$(wc -l <"$t/err")" -eq 1 ] &&
		grep -qF -- "$lib_words" "$t/err" && [ ! -s "$t/out" ]; then
		echo "ok $lib_name"
	else
		echo "not ok $lib_name: exit code $lib_rc"
		cat "$t/out" "$t/err"
	fi
}

# Waits up to 60 s for a command to succeed.
await() { # COMMAND...
	lib_tries=0
	until "$@" >/dev/null 2>&1; do
		lib_tries=$((lib_tries + 1))
		[ $lib_tries -gt 600 ] && return 1
		sleep 0.1
	done
}

# Waits up to 60 s until a file has a line that matches.
await_line() { # PATTERN FILE
	await grep -qa -- "$1" "$2"
}

# What a line for the shell at a machine's console prints.
guest() { # MACHINE LINE
	lib_said=$(($(cat "$t/said" 2>/dev/null || echo 1000) + 1))
	echo $lib_said >"$t/said"
	rm -f "$t/type"
	mkfifo "$t/type"
	timeout 100 $s console "$1" <"$t/type" >"$t/heard" 2>/dev/null &
	lib_console=$!
	exec 9>"$t/type"
	printf '\n%s\n' "echo BEGIN-\$(($lib_said)); $2
echo; echo END-\$(($lib_said))" >&9
	await_line "^END-$lib_said" "$t/heard"
	exec 9>&-
	kill $lib_console 2>/dev/null
	wait $lib_console 2>/dev/null
	sed -n "/^BEGIN-$lib_said/,/^END-$lib_said/p" "$t/heard" | tr -d '\r' |
		grep -av '^BEGIN-\|^END-\|^$\|^tiny:'
}
