#!/bin/sh
# sublet snapshot and restore from outside: a loaded guest goes on through
# rounds of both, damage and faults are told, nothing half is left.
# snapshot.sh [ROUNDS]. Prints "ok NAME" or "not ok NAME" lines.
set -u
s=build/sublet
t=$(mktemp -d)
rounds=${1:-5}
export SUBLET_RUNTIME_DIR="$t/rt"
export XDG_CACHE_HOME="${XDG_CACHE_HOME:-$HOME/.cache}"
finish() {
	for v in $($s ps 2>/dev/null | awk 'NR > 1 {print $1}'); do
		$s kill "$v" >/dev/null 2>&1
	done
	umount "$t/small" 2>/dev/null
	rm -rf "$t"
}
trap finish EXIT

check() { # NAME CONDITION...: a test(1) expression
	n=$1
	shift
	if [ "$@" ]; then echo "ok $n"; else echo "not ok $n: [ $* ]"; fi
}

# Waits until file $2 has a line with $1, up to 30 s.
await() {
	i=0
	while ! grep -q "$1" "$2" 2>/dev/null; do
		i=$((i + 1))
		[ $i -gt 300 ] && return 1
		sleep 0.1
	done
}

# Fails with one line that has these words.
refuse() { # NAME WORDS COMMAND...
	n=$1 words=$2
	shift 2
	timeout 60 "$@" >"$t/out" 2>"$t/err" </dev/null
	rc=$?
	if [ $rc -ne 0 ] && [ $rc -ne 124 ] && [ "$(wc -l <"$t/err")" -eq 1 ] &&
		grep -qF -- "$words" "$t/err"; then
		echo "ok $n"
	else
		echo "not ok $n: exit code $rc"
		cat "$t/out" "$t/err"
	fi
}

# Memory with checksums, a clock, a disk that is read back.
cat >"$t/load" <<'END'
cd /dev; n=0; d=vda; while true; do
 dd if=/dev/urandom of=/m bs=64k count=8 2>/dev/null; a=$(md5sum </m);
 dd if=/m of=$d bs=64k seek=$((n % 20 * 8)) count=8 2>/dev/null; sync;
 echo 1 >/proc/sys/vm/drop_caches;
 b=$(dd if=$d bs=64k skip=$((n % 20 * 8)) count=8 2>/dev/null | md5sum);
 read u x </proc/uptime;
 [ "$a" = "$b" ] || echo TORN;
 echo "tick $n $u"; n=$((n + 1)); done
END
truncate -s 16M "$t/disk"

$s run tiny --detach --name a --memory 128M --disk "$t/disk,private" \
	--console "file=$t/log0" >/dev/null || exit 1
await 'tiny:' "$t/log0"
(sed 's/^ *//' "$t/load" | tr '\n' ' '; echo; sleep 1) |
	timeout 20 $s console a >/dev/null 2>&1
await 'tick 3' "$t/log0"
check "a loaded guest" -n "$(grep 'tick 3' "$t/log0")"

# ---- rounds ----

now=a n=0
while [ $n -lt "$rounds" ]; do
	n=$((n + 1))
	await 'tick' "$t/log$((n - 1))"
	$s snapshot $now "$t/s$n" >"$t/out" || break
	$s kill $now >/dev/null
	now=r$n
	$s restore "$t/s$n" --detach --name $now --console "file=$t/log$n" \
		>/dev/null || break
	await 'tick [0-9]' "$t/log$n" || break
	[ $n -lt 4 ] || rm -rf "$t/s$((n - 1))" # a running machine has it open
done
check "rounds of snapshot and restore" $n -eq "$rounds"
await 'tick' "$t/log$n" && sleep 1
cat "$t"/log[0-9]* >/dev/null
i=0
while [ $i -le "$rounds" ]; do cat "$t/log$i"; i=$((i + 1)); done |
	grep -a -o '^tick [0-9]* [0-9.]*\|^TORN' >"$t/ticks"
check "nothing torn" -z "$(grep TORN "$t/ticks" | head -1)"
# What was printed after a snapshot and before the kill comes again.
check "time and count go on" -z "$(awk '
	$2 > last + 1 || ($2 == last + 1 && $3 + 0 < clock) {print; exit}
	{last = $2; clock = $3 + 0}' "$t/ticks")"
check "the guest did something" "$(wc -l <"$t/ticks")" -ge 5

# ---- going back ----

$s restore "$t/s1" --detach --name back --console "file=$t/logb" >/dev/null
await 'tick' "$t/logb"
check "the first snapshot is still good" -n "$(grep tick "$t/logb")"
$s kill back >/dev/null
$s snapshot check "$t/s1" >"$t/out" 2>"$t/err"
check "check says so" -n "$(grep 'are good' "$t/out")"
check "show tells the machine" -n "$($s snapshot show "$t/s1" | grep '128 MiB')"
check "show tells registers" -n \
	"$($s snapshot show "$t/s1" --all | grep '  rip = ')"

# ---- differential snapshots ----

refuse "a difference to nothing" "none was made before" \
	$s snapshot $now "$t/d0" --diff
$s snapshot $now "$t/d1" --track >"$t/out" 2>&1
sleep 1
$s snapshot $now "$t/d2" --diff >>"$t/out" 2>&1
$s pause $now
$s snapshot $now "$t/d3" --diff >>"$t/out" 2>&1
$s snapshot $now "$t/full" >>"$t/out" 2>&1
$s resume $now
check "three of a chain and a full one" "$(grep -c paused "$t/out")" -eq 4
check "the difference is smaller" "$(du -k "$t/d3/memory" | cut -f1)" -lt \
	$(($(du -k "$t/full/memory" | cut -f1) / 2))
$s snapshot check "$t/d3" >"$t/out" 2>"$t/err"
check "the chain is good" -n "$(grep 'are good' "$t/out")"
# Both go on from the same moment, so their memory is the same but for what
# a restored machine is told: its generation id and its clock.
for v in d3 full; do
	$s restore "$t/$v" --detach --paused --name m$v --console none \
		>/dev/null
	$s snapshot m$v "$t/again-$v" >/dev/null
	$s kill m$v >/dev/null
done
pages=$(cmp -l "$t/again-d3/memory" "$t/again-full/memory" |
	awk '{print int(($1 - 1) / 4096)}' | sort -un | tr '\n' ' ')
check "the chain has the full memory" "$(echo $pages | wc -w)" -le 3
[ "$(echo $pages | wc -w)" -le 3 ] || echo "pages that differ: $pages"
$s restore "$t/d3" --detach --name chain --console "file=$t/logd" >/dev/null
await 'tick' "$t/logd"
check "a chain goes on" -n "$(grep tick "$t/logd")"
$s kill chain >/dev/null
mkdir "$t/moved"
mv "$t/d1" "$t/d2" "$t/d3" "$t/moved"
$s snapshot check "$t/moved/d3" >"$t/out" 2>"$t/err"
check "a chain that was moved" -n "$(grep 'are good' "$t/out")"
rm -r "$t/moved/d1"
refuse "a chain without its first" "d1" $s restore "$t/moved/d3"
rm -r "$t/moved"

# ---- memory that comes when it is used ----

# Makes file $1 a socket at which a handler of memory listens.
handler() { # SOCKET MEMORY [FAULTS]
	test/uffd-handler.py "$@" >"$1.log" 2>&1 &
	i=0
	while [ ! -S "$1" ] && [ $i -lt 300 ]; do
		i=$((i + 1))
		sleep 0.1
	done
}
goes_on() { # NAME RESTORE-ARGUMENTS...: and it can be saved again
	what=$1
	shift
	rm -rf "$t/logm" "$t/again"
	$s restore "$@" --detach --name m --console "file=$t/logm" >/dev/null
	await 'tick' "$t/logm"
	check "$what goes on" -n "$(grep tick "$t/logm")"
	$s snapshot m "$t/again" >/dev/null && $s snapshot check "$t/again" \
		>"$t/out" 2>&1
	check "$what is saved again" -n "$(grep 'are good' "$t/out")"
	$s kill m >/dev/null
}
$s snapshot $now "$t/packed" --compress zstd >"$t/out" 2>&1
$s snapshot $now "$t/p1" --track >/dev/null
$s snapshot $now "$t/p2" --diff --compress zstd >/dev/null
check "packed memory is smaller" "$(du -k "$t/packed/memory.zst" | cut -f1)" \
	-lt $(($(du -k "$t/s1/memory" | cut -f1) / 2))
goes_on "packed memory" "$t/packed"
goes_on "a packed difference" "$t/p2"
goes_on "memory of its own" "$t/s1" --memory-backend copy
if [ "$(id -u)" = 0 ] || [ "$(cat /proc/sys/vm/unprivileged_userfaultfd)" = 1 ]
then
	handler "$t/uffd" "$t/s1/memory"
	goes_on "memory of a handler" "$t/s1" --memory-backend "uffd:$t/uffd"
	wait $!
	handler "$t/uffd2" "$t/s1/memory" 200
	timeout 60 $s restore "$t/s1" --console "file=$t/logu" --name dies \
		--memory-backend "uffd:$t/uffd2" 2>"$t/err" </dev/null
	check "a handler that dies" "$(cat "$t/err")" = "sublet: dies stopped: \
the memory handler at $t/uffd2 ended before all memory was here"
else
	echo "skip memory of a handler: no userfaultfd"
fi
refuse "no handler" "no memory handler listens" \
	$s restore "$t/s1" --memory-backend "uffd:$t/nobody"
refuse "another backend" "is none of file, copy, uffd:SOCKET" \
	$s restore "$t/s1" --memory-backend uffd

# ---- snapshots that older versions made load for ever ----

# Each ends with status 67 once it goes on; its CPU may be another than here.
for g in test/golden/*.tar.xz; do
	v=$(basename "$g" .tar.xz)
	tar -C "$t" -xJf "$g"
	$s snapshot check "$t/$v" >"$t/out" 2>"$t/err"
	check "golden $v is good" -n "$(grep 'are good' "$t/out")"
	if grep -q 'soft: yes' "$t/out"; then
		timeout 60 $s restore "$t/$v" --engine soft --console none
		check "golden $v goes on" $? -eq 67
	else
		echo "skip golden $v goes on: $(grep soft "$t/out")"
	fi
done

# ---- clones ----

$s clone $now -n 3 --name c >"$t/out" 2>"$t/err"
check "three clones" "$($s ps | grep -c '^c-[123] ')" -eq 3
check "the clones are named" "$(grep -c '^c-[123] ' "$t/out")" -eq 3
check "a clone of a clone" -n "$($s clone c-2 --name cc 2>&1 | grep '^cc-1 ')"
check "the template is gone" -z "$(ls /dev/shm | grep sublet-clone-)"
(sleep 0.3; printf '\003\ncat /proc/uptime\n'; sleep 1) |
	timeout 10 $s console c-3 >"$t/out" 2>&1
check "a clone goes on" -n "$(grep -a '^[0-9][0-9.]* [0-9]' "$t/out")"
$s kill c-1 c-2 c-3 cc-1 >/dev/null
refuse "a clone of nobody" "nobody" $s clone nobody

# ---- refusals ----

refuse "a folder that is there" "is there already" $s snapshot $now "$t/s1"
refuse "no snapshot" "no snapshot" $s restore "$t/rt"
refuse "no folder" "No such file" $s restore "$t/nothing"
damage() { # SNAPSHOT FILES...
	from=$1
	shift
	for f in "$@"; do
		cp -r --sparse=always "$from" "$t/bad"
		rm "$t/bad/$f"
		refuse "without $f" "$t/bad" $s snapshot check "$t/bad"
		cp "$from/$f" "$t/bad/$f"
		truncate -s -1 "$t/bad/$f"
		refuse "truncated $f" "$t/bad" $s snapshot check "$t/bad"
		cp --sparse=always "$from/$f" "$t/bad/$f"
		# a bit in the middle of what is not a hole
		python3 - "$t/bad/$f" <<'END'
import os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
size = os.fstat(fd).st_size
at = os.lseek(fd, size // 3, os.SEEK_DATA) + 5
byte = os.pread(fd, 1, at)
os.pwrite(fd, bytes([byte[0] ^ 4]), at)
END
		refuse "damaged $f" "$t/bad" $s snapshot check "$t/bad"
		rm -r "$t/bad"
	done
}
damage "$t/s1" manifest.json state memory memory.sums disk0 disk0.map
damage "$t/packed" memory.zst memory.index
cp -r --sparse=always "$t/s1" "$t/bad"
sed -i 's/"format": 1/"format": 3/' "$t/bad/manifest.json"
refuse "a newer version" "newer version" $s restore "$t/bad"
rm -r "$t/bad"
printf x | dd of="$t/disk" conv=notrunc 2>/dev/null
refuse "a disk that was changed" "was changed since" $s restore "$t/s1"

# ---- faults while a snapshot is made ----

mkdir "$t/small"
if mount -t tmpfs -o size=8M tmpfs "$t/small" 2>/dev/null; then
	refuse "a full disk" "No space left" $s snapshot $now "$t/small/x"
	refuse "a full disk while packing" "No space left" \
		$s snapshot $now "$t/small/x" --compress zstd
	check "nothing is left of it" -z "$(ls "$t/small")"
fi
$s snapshot $now "$t/killed" >/dev/null 2>&1 &
sleep 0.05
kill -9 "$($s ps | awk -v n=$now '$1 == n {print $4}')"
wait
if [ -e "$t/killed" ]; then
	$s snapshot check "$t/killed" >/dev/null 2>&1
	check "killed, but whole" $? -eq 0
else
	echo "ok killed: there is no snapshot"
fi
