#!/bin/bash
# Running VMs from outside: names, verbs, the socket, the console, misuse.
# Prints "ok NAME" or "not ok NAME" lines.
set -u
s="timeout 60 build/sublet"
t=$(mktemp -d)
export SUBLET_RUNTIME_DIR=$t/rt
export XDG_CACHE_HOME="${XDG_CACHE_HOME:-$HOME/.cache}"
finish() {
	for l in "$t"/rt/*/lock; do
		[ -s "$l" ] && kill -9 "$(cat "$l")" 2>/dev/null
	done
	umount "$t/small" 2>/dev/null
	rm -rf "$t"
}
trap finish EXIT

ok() { # NAME CONDITION...: a test(1) expression
	n=$1
	shift
	if [ "$@" ]; then echo "ok $n"; else echo "not ok $n: [ $* ]"; fi
}

# This exit code, one line on stderr that has these words, silence on stdout.
refuse() { # NAME CODE WORDS ARGUMENTS...
	n=$1 code=$2 words=$3
	shift 3
	timeout 60 $s "$@" >"$t/out" 2>"$t/err" </dev/null
	rc=$?
	if [ $rc -eq "$code" ] && [ "$(wc -l <"$t/err")" -eq 1 ] &&
		grep -qF -- "$words" "$t/err" && [ ! -s "$t/out" ]; then
		echo "ok $n"
	else
		echo "not ok $n: exit code $rc"
		cat "$t/out" "$t/err"
	fi
}

# Waits up to 60 s for a command to succeed.
await() {
	for _ in $(seq 600); do
		"$@" >/dev/null 2>&1 && return 0
		sleep 0.1
	done
	return 1
}

# A multiboot kernel of the given instructions (octal escapes).
kernel() {
	printf '\002\260\255\033\000\000\001\000\376\117\121\344' >"$2"
	printf '\000\000\020\000\000\000\020\000\000\000\000\000' >>"$2"
	printf '\000\000\000\000\040\000\020\000' >>"$2"
	printf "$1" >>"$2"
}
kernel '\364\353\375' "$t/halt"
# counts at COM1: 1: out %al, $0x3f8 by %dx; inc %al; jmp 1b
kernel '\146\272\370\003\260\101\356\353\375' "$t/flood"
# "H" to COM1, then halts
kernel '\146\272\370\003\260\110\356\364\353\375' "$t/hello"
# 2: waits for GPE 5 at port 0x610, then "G" to COM1 and halt:
#    mov $0x610,%dx; 1: in %dx,%ax; test $0x20,%al; jz 1b; mov $0x3f8,%dx ...
kernel '\146\272\020\006\146\355\250\040\164\372\146\272\370\003\260\107\356\364\353\375' \
	"$t/gpe"
# waits for a byte at COM1, writes it + 1
kernel '\146\272\375\003\354\250\001\164\373\146\272\370\003\354\376\300\356\353\355' \
	"$t/echo"
run() { # NAME KERNEL...: in the background
	n=$1 k=$2
	shift 2
	$s run --detach --name "$n" --net none --kernel "$t/$k" "$@" >/dev/null
}
names() { echo $($s ps --quiet); }
state() { $s info "$1" | sed -n 's/.*"state": "\(.*\)",/\1/p'; }

# ---- names ----
refuse "unknown name" 125 "no machine named nobody" pause nobody
refuse "no name" 2 "needs a machine's name" pause
refuse "bad name" 125 "cannot be a machine's name" pause ../x
refuse "bad name to run" 2 "cannot be a machine's name" run --name 'a b' tiny
refuse "unknown option" 2 "unknown option --fast" stop --fast a
refuse "two names to wait for" 2 "what is b?" wait a b
refuse "timeout nonsense" 2 "not a number of seconds" stop --timeout x a
refuse "a command in the background" 2 "--detach" run --detach tiny -- ls
refuse "start fails in the background" 125 "No such file" run --detach \
	--kernel "$t/missing"
ok "ps of nothing" -z "$(names)"
out=$($s run --detach --name a --net none --kernel "$t/halt")
ok "detach prints the name" "$?$out" = 0a
refuse "name taken twice" 125 "a is running already" run --detach --name a \
	--kernel "$t/halt"
run b halt
ok "ps" "$(names)" = "a b"
ok "ps --json" "$($s ps --json | grep -c '"pid": [0-9]')" -eq 2
one=$($s run --detach --net none --kernel "$t/halt")
two=$($s run --detach --net none --kernel "$t/halt")
ok "names of their own" "$one $two" = "vm vm-2"
$s stop --now "$one" "$two"
ok "stop --now" "$?$(names)" = "0a b"
ok "no folder is left" "$(ls "$t/rt")" = "$(printf 'a\nb')"

# ---- pause and others ----
ok "running" "$(state a)" = Running
$s pause a && $s pause a
ok "paused" "$(state a)" = Paused
$s resume a b && $s resume a
ok "resumed" "$(state a)" = Running
timeout 20 $s wait b >"$t/out" 2>&1 &
w=$!
sleep 0.5
$s nmi b
wait $w
ok "an nmi without handler is a triple fault" "$?" -eq 124
ok "wait tells" "$(grep -c '^b: triple-fault: ' "$t/out")" -eq 1
ok "info" "$($s info a | grep -c '"mem_size_mib": 512')" -ge 1
$s stats a >"$t/out"
ok "stats" "$(grep -c '^halts' "$t/out")" -eq 1
run r halt --no-reboot
timeout 20 $s wait r >"$t/out" &
w=$!
sleep 0.3
$s reset r
wait $w
ok "reset with --no-reboot" "$(cat "$t/out")" = "r: reset"
$s reset a
ok "reset" "$(state a)" = Running
run g gpe
sleep 0.3
curl -s --unix-socket "$t/rt/g/api.sock" -X PUT http://x/actions \
	-d '{"action_type":"NewGeneration"}'
ok "the guest hears of a new generation" "$(timeout 5 $s console g </dev/null |
	head -c 1)" = G
$s kill g

# ---- end ----
$s power-button a
ok "one that ignores the power button" "$(state a)" = Running
$s pause a
timeout 20 $s stop --timeout 1 a 2>"$t/err"
ok "is stopped later" "$?$(grep -c 'did not shut down' "$t/err")" = 01
ok "and is gone" -z "$(names)"
refuse "dead VM" 125 "no machine named a" resume a
run k halt
$s kill k
ok "kill" "$?$(names)$(ls "$t/rt")" = 0
for i in 1 2 3; do run k$i halt; done
pid=$(cat "$t/rt/k1/lock")
kill -9 "$pid"
await sh -c "! kill -0 $pid"
ok "a killed one is swept" "$(names)$(ls "$t/rt" | wc -l)" = "k2 k32"
timeout 20 $s wait k2 >"$t/out" 2>"$t/err" &
w=$!
sleep 0.3
kill -9 $(cat "$t/rt/k2/lock")
wait $w
ok "killed while waited for" "$?$(grep -c 'k2 ended before' "$t/err")" = 1251
kill -STOP $(cat "$t/rt/k3/lock")
ok "one that hangs is listed" "$(timeout 20 $s ps | grep -c '^k3 .*No answer')" \
	-eq 1
$s kill k3
ok "and can be killed" "$?$(names)" = 0
run i halt
timeout -s INT 1 $s wait i
ok "Ctrl-C in a client" "$(state i)" = Running
timeout -s TERM 5 $s wait i >"$t/out" &
w=$!
sleep 0.3
kill -TERM $(cat "$t/rt/i/lock")
wait $w
ok "ended by a signal" "$?$(cat "$t/out")" = "143i: signal"

# ---- console ----
run h hello
await sh -c "timeout 1 $s console h </dev/null | grep -q H"
ok "what was said before" "$(timeout 1 $s console h </dev/null)" = H
ok "two at a console" "$( (timeout 2 $s console h & timeout 2 $s console h;
	wait) </dev/null)" = HH
timeout 20 $s console h </dev/null >"$t/out" &
w=$!
sleep 0.3
kill -9 $(cat "$t/rt/h/lock")
wait $w
ok "killed under a console" "$?$(cat "$t/out")" = 0H
run f flood
timeout 2 $s console f </dev/null | sleep 3 &
w=$!
sleep 1
ok "who does not read holds up nobody" "$(state f)" = Running
wait $w
$s stop --now f
run e echo
ok "input" "$( (sleep 0.5; printf A; sleep 1) | timeout 3 $s console e)" = B
if command -v python3 >/dev/null; then
	timeout 100 python3 test/console.py build/sublet e
else
	echo "skip console at a terminal: no python3"
fi
$s stop --now e
run n halt --console none
refuse "no console" 125 "no console" console n
$s stop --now n

# ---- the socket ----
run s halt
sock=$t/rt/s/api.sock
get() { curl -s --max-time 20 --unix-socket "$sock" "$@"; }
ok "socket for the owner only" "$(stat -c %a "$sock" "$t/rt/s" "$t/rt" |
	tr '\n' ' ')" = "600 700 700 "
ok "GET /" "$(get http://x/)" = \
	'{"app_name":"Sublet","id":"s","state":"Running","vmm_version":"0.1"}'
ok "PATCH /vm" "$(get -o /dev/null -w '%{http_code}' -X PATCH http://x/vm \
	-d '{"state":"Paused"}')$(state s)" = 204Paused
ok "InstanceStart" "$(get -X PUT http://x/actions \
	-d '{"action_type":"InstanceStart"}' | grep -c 'not supported after')" -eq 1
ok "unknown path" "$(get -w '%{http_code}' http://x/nothing)" = \
	'{"fault_message":"Invalid request method and/or path: GET /nothing."}400'
(get -N http://x/events >"$t/out"; :) &
w=$!
$s events s >"$t/out2" &
w2=$!
await grep -q hello "$t/out"
await grep -q hello "$t/out2"
$s resume s
$s stop --now s
wait $w $w2
ok "events by the verb" "$(grep -c '"event":"ended"' "$t/out2")" -eq 1
ok "events" "$(grep -o '"event":"[a-z]*"' "$t/out" | tr -d '\n')" = \
	'"event":"hello""event":"resumed""event":"ended"'

# ---- folders ----
mkdir "$t/others"
chmod 777 "$t/others"
SUBLET_RUNTIME_DIR=$t/others refuse "folder of others" 125 \
	"writable by nobody else" ps
SUBLET_RUNTIME_DIR=$t/halt refuse "folder is a file" 125 "$t/halt" run \
	--detach --name x --kernel "$t/halt"
mkdir "$t/small"
if mount -t tmpfs -o size=4k,nr_inodes=2,mode=700 none "$t/small" 2>/dev/null; then
	SUBLET_RUNTIME_DIR=$t/small refuse "no room for the folder" 125 \
		"No space left" run --detach --name x --kernel "$t/halt"
	SUBLET_RUNTIME_DIR=$t/small timeout 5 $s run --kernel "$t/halt" \
		--net none --debug-exit 0xf4 </dev/null >/dev/null 2>"$t/err"
	ok "without a name it runs all the same" \
		"$?$(grep -c 'no control socket' "$t/err")" = 1241
	umount "$t/small"
else
	echo "skip no room for the folder: cannot mount"
fi
ln -s "$t" "$t/link"
SUBLET_RUNTIME_DIR=$t/link refuse "folder is a link" 125 "$t/link" run \
	--detach --name x --kernel "$t/halt"
long=$t/$(printf '%0100d' 0)
mkdir -m 700 "$long"
export SUBLET_RUNTIME_DIR=$long
run l halt
ok "long path" "$(names)" = l
$s stop --now l
export SUBLET_RUNTIME_DIR=$t/rt

# ---- Linux ----
$s run tiny --name pipe -- 'seq 300000' </dev/null 2>"$t/err" |
	(sleep 5; md5sum >"$t/sum") &
await $s info pipe
sleep 3
timeout 5 $s pause pipe
ok "pausing while nobody reads" $? -eq 0
timeout 5 $s resume pipe
wait
ok "nothing of the output is lost" "$(cut -d ' ' -f 1 "$t/sum")" = \
	"$(seq 300000 | md5sum | cut -d ' ' -f 1)"
$s run --detach --name linux tiny >/dev/null
await sh -c "timeout 1 $s console linux </dev/null | grep -q 'Type exit'"
(printf 'echo $((6*7))\n'; sleep 2) | timeout 20 $s console linux >"$t/out"
ok "a shell at the console" "$(grep -c '^42' "$t/out")" -eq 1
$s snapshot linux "$t/snap" >/dev/null
$s stop --now linux
sleep 5
$s restore "$t/snap" --detach --name linux >/dev/null
now=$(date +%s)
(printf 'date +%%s\n'; sleep 2) | timeout 20 $s console linux >"$t/out"
ok "a restored machine knows the time" \
	"$(grep -o '^[0-9]\{10,\}' "$t/out" | tail -n 1)" -ge $((now - 1))
if cpio -t <"$XDG_CACHE_HOME/sublet/images/tiny/initrd" 2>/dev/null |
	grep -q modules/order.button; then
	timeout 60 $s stop linux --timeout 40 2>"$t/err"
	ok "Linux shuts down at the power button" "$?$(cat "$t/err")" = 0
else
	echo "skip power button in Linux: tiny was made by an older version"
	$s stop --now linux
fi
ok "all are gone" -z "$(names)$(ls "$t/rt")"
exit 0
