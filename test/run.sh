#!/bin/sh
# sublet run from outside: bad input, exit codes, streams, disks, signals, the
# terminal. Prints "ok NAME", "not ok NAME" or "skip NAME: why" lines.
set -u
s=build/sublet
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
export XDG_CACHE_HOME="${XDG_CACHE_HOME:-$HOME/.cache}"

check() { # NAME CONDITION...: a test(1) expression
	n=$1
	shift
	if [ "$@" ]; then echo "ok $n"; else echo "not ok $n: [ $* ]"; fi
}

# Refused: this exit code, one line on stderr that has these words, silence on
# stdout.
refuse() { # NAME CODE WORDS ARGUMENTS...
	n=$1 code=$2 words=$3
	shift 3
	timeout 60 $s run "$@" >"$t/out" 2>"$t/err" </dev/null
	rc=$?
	if [ $rc -eq "$code" ] && [ "$(wc -l <"$t/err")" -eq 1 ] &&
		grep -qF -- "$words" "$t/err" && [ ! -s "$t/out" ]; then
		echo "ok $n"
	else
		echo "not ok $n: exit code $rc"
		cat "$t/out" "$t/err"
	fi
}

# A multiboot kernel of the given instructions (octal escapes).
kernel() {
	printf '\002\260\255\033\000\000\001\000\376\117\121\344' >"$2"
	printf '\000\000\020\000\000\000\020\000\000\000\000\000' >>"$2"
	printf '\000\000\000\000\040\000\020\000' >>"$2"
	printf "$1" >>"$2"
}

mkdir "$t/folder"
: >"$t/empty"
echo "not a kernel" >"$t/text"
truncate -s 1M "$t/zero"
truncate -s 16M "$t/huge"
kernel '\364\353\375' "$t/halt"
kernel '\152\000\152\000\017\001\034\044\314' "$t/triple"
kernel '\260\041\346\364\364' "$t/exit"
kernel '\146\272\370\003\260\170\356\353\375' "$t/flood"
kernel '\146\272\351\000\260\110\356\260\041\346\364\364' "$t/hi"

refuse "no image, no kernel" 2 "what shall run?"
refuse "unknown option" 2 "unknown option --frobnicate" --frobnicate
refuse "option without value" 2 "--cpus needs a value" tiny --cpus
refuse "two images" 2 "one image at a time" tiny debian
refuse "no such image" 125 "nosuch" nosuch
refuse "no CPU" 125 "1 to 64 CPUs" --kernel "$t/halt" --cpus 0
refuse "CPUs too many" 125 "1 to 64 CPUs" --kernel "$t/halt" --cpus 65
refuse "CPUs not a number" 2 "not a number" --kernel "$t/halt" --cpus two
refuse "memory too small" 125 "16 MiB" --kernel "$t/halt" --memory 1M
refuse "code cache no size" 2 "no size" --kernel "$t/halt" --code-cache x
refuse "code cache too small" 125 "1 MiB to" --kernel "$t/halt" --code-cache 9K
refuse "memory too big" 125 "1024 GiB" --kernel "$t/halt" --memory 2T
refuse "memory nonsense" 2 "is not a size" --kernel "$t/halt" --memory lots
refuse "kernel missing" 125 "No such file" --kernel "$t/missing"
refuse "kernel is a folder" 125 "is a directory" --kernel "$t/folder"
refuse "kernel is empty" 125 "is empty" --kernel "$t/empty"
refuse "kernel is text" 125 "not a kernel" --kernel "$t/text"
refuse "kernel is zeros" 125 "not a kernel" --kernel "$t/zero"
refuse "initrd for no room" 125 "do not fit" --kernel "$t/halt" \
	--memory 16M --initrd "$t/huge"
refuse "disk missing" 125 "$t/missing" --kernel "$t/halt" \
	--disk "$t/missing"
refuse "disk is a folder" 125 "$t/folder" --kernel "$t/halt" \
	--disk "$t/folder"
refuse "disk twice" 125 "given twice" --kernel "$t/halt" \
	--disk "$t/zero" --disk "$t/zero"
refuse "forward nonsense" 125 "forward" --kernel "$t/halt" \
	--forward tcp:x:y
refuse "debug port in use" 125 "overlap" --kernel "$t/halt" \
	--debug-exit 0x3f8
refuse "console cannot be" 125 "$t/folder/x/y" --kernel "$t/halt" \
	--console "file=$t/folder/x/y"
refuse "engine unknown" 2 "none of auto" --kernel "$t/halt" --engine fast


# The host's CPUs
refuse "affinity nonsense" 125 "--cpu-affinity" --kernel "$t/halt" \
	--cpu-affinity 0-x
refuse "affinity to a CPU that is not there" 125 "not there" \
	--kernel "$t/halt" --cpu-affinity 0:1023
refuse "affinity of a processor that is not there" 125 "vCPU 2" \
	--kernel "$t/halt" --cpus 2 --cpu-affinity 2:0
refuse "shares too many" 2 "up to 10000" --kernel "$t/halt" \
	--cpu-shares 10001
refuse "quota of nothing" 2 "1% or more" --kernel "$t/halt" --cpu-quota 0%

# Which host CPUs a thread of this name may use.
allowed() { # PID NAME
	for d in /proc/$1/task/*; do
		[ "$(cat $d/comm 2>/dev/null)" = "$2" ] &&
			sed -n 's/Cpus_allowed_list:\t//p' $d/status
	done
}
last=$(sed -n 's/Cpus_allowed_list:\t//p' /proc/self/status | sed 's/.*[-,]//')
$s run --kernel "$t/halt" --cpus 3 --cpu-affinity "1:$last" --console none \
	2>"$t/err" &
pinned=$!
i=0
while [ -z "$(allowed $pinned vcpu2)" ] && [ $((i += 1)) -lt 100 ]; do
	sleep 0.1
done
check "processor 1 pinned" "$(allowed $pinned vcpu1)" = "$last"
check "the others are free" "$(allowed $pinned vcpu2)" = "$(
	sed -n 's/Cpus_allowed_list:\t//p' /proc/self/status)"

# Counters on a signal
kill -USR1 $pinned
i=0
while ! grep -q "^all " "$t/err" && [ $((i += 1)) -lt 100 ]; do sleep 0.1; done
check "counters on a signal" "$(grep -c '^vCPU 0 ' "$t/err")" -gt 0
kill $pinned
wait $pinned 2>/dev/null

# Shares, quota and core scheduling work or are refused for a reason.
for o in --cpu-shares=50 --cpu-quota=50% --core-scheduling; do
	timeout 60 $s run --kernel "$t/exit" --debug-exit 0xf4 $o \
		2>"$t/err" </dev/null
	rc=$?
	if [ $rc = 67 ]; then
		echo "ok $o"
	elif [ $rc = 125 ] && grep -q -- "${o%%=*}" "$t/err"; then
		echo "skip $o: $(cat "$t/err")"
	else
		echo "not ok $o: exit code $rc: $(cat "$t/err")"
	fi
done

timeout 20 $s run --kernel "$t/exit" --debug-exit 0xf4 2>"$t/err"
check "debug exit" $? -eq 67
out=$(timeout 20 $s run --kernel "$t/hi" --debug-exit 0xf4 \
	--debug-console 0xe9 2>"$t/err")
check "debug console" "$?$out" = "67H"
timeout 20 $s run --kernel "$t/triple" >"$t/out" 2>"$t/err" </dev/null
check "triple fault" $? -eq 124
check "triple fault is told" "$(grep -c 'triple fault' "$t/err")" -eq 1

# A signal ends it with 128 + its number.
for sig in INT:130 TERM:143 HUP:129; do
	timeout -s ${sig%:*} --preserve-status 1 $s run --kernel "$t/halt" \
		>"$t/out" 2>&1 </dev/null
	check "ended by ${sig%:*}" $? -eq ${sig#*:}
done

# A guest that floods its serial port, with nobody reading.
timeout -s TERM --preserve-status 3 $s run --kernel "$t/flood" 2>"$t/err" \
	</dev/null | sleep 4
check "serial flood" ! -s "$t/err"

# Two machines on one writable disk.
$s run --kernel "$t/halt" --disk "$t/zero" --console none 2>"$t/err1" &
first=$!
sleep 1
refuse "disk in use" 125 "$t/zero" --kernel "$t/halt" --disk "$t/zero"
kill $first
wait $first 2>/dev/null

# Linux
out=$(timeout 100 $s run tiny -- 'echo out; echo err >&2; exit 7' \
	2>"$t/err" </dev/null)
check "command's exit code" $? -eq 7
check "command's output" "$out" = out
check "command's error output" "$(cat "$t/err")" = err
out=$(seq 20000 | timeout 100 $s run tiny -- 'md5sum; seq 30000' 2>"$t/err" |
	md5sum)
want=$( (seq 20000 | md5sum; seq 30000) | md5sum)
check "command's streams are whole" "$out" = "$want"
out=$(timeout 100 $s run tiny -- printf '<%s>' 'a  b' "c'd" '$HOME' \
	2>/dev/null </dev/null)
check "command's words" "$out" = "<a  b><c'd><\$HOME>"
printf 'written by nobody yet' | dd of="$t/zero" conv=notrunc 2>/dev/null
out=$(timeout 400 $s run tiny --engine soft --cpus 64 --net none -- nproc)
check "64 CPUs" "$?$out" = 064
out=$(timeout 100 $s run tiny --engine soft --code-cache 1M --net none -- \
	'for i in 1 2 3; do ls -l /bin | md5sum; done | sort -u | wc -l')
check "small code cache" "$?$out" = 01
out=$(timeout 100 $s run tiny --cpus 2 --disk "$t/zero" -- '
	head -c 7 /dev/vda; printf "written by the guest" >/dev/vda; sync' \
	2>"$t/err" </dev/null)
check "disk read" "$out" = written
check "disk written" "$(head -c 20 "$t/zero")" = "written by the guest"
timeout 100 $s run tiny --disk "$t/zero,ro" -- \
	'echo no >/dev/vda' >"$t/out" 2>&1 </dev/null
check "read-only disk stays" "$(head -c 20 "$t/zero")" = "written by the guest"
out=$(timeout 100 $s run tiny --memory 64M -- nproc 2>"$t/err" </dev/null)
check "64 MiB" "$out" = 1
timeout 100 $s run tiny --console "file=$t/console" --append \
	"loglevel=6" --no-reboot -- 'reboot -f' 2>"$t/err" </dev/null
check "reset ends it" "$(grep -c 'ended before' "$t/err")" -eq 1
check "console in a file" "$(grep -c 'Linux version' "$t/console")" -eq 1

# An image of an earlier version is made anew, or will do if it cannot be.
images="${XDG_CACHE_HOME:-$HOME/.cache}/sublet/images"
mkdir -p "$t/cache/sublet/images"
cp -a "$images/tiny" "$t/cache/sublet/images/"
sed -i 's/^option recipe .*/option recipe 0/' \
	"$t/cache/sublet/images/tiny/manifest"
out=$(XDG_CACHE_HOME="$t/cache" PATH=/nowhere /usr/bin/timeout 100 $s run \
	tiny -- 'echo runs' 2>"$t/err" </dev/null)
check "an image of an earlier version" "$out" = runs
check "a word about it" "$(grep -c 'making image\|will do' "$t/err")" -eq 2

if command -v python3 >/dev/null; then
	python3 test/terminal.py $s "$t/halt"
else
	echo "skip terminal: no python3"
fi
exit 0
