#!/bin/sh
# Clones are machines of their own: what a guest sees of its identity is
# another in each, by its agent and without one; virtio sockets; the date after
# a long sleep. Prints "ok NAME" or "not ok NAME" lines.
set -u
. test/lib.sh

# tiny with a program for virtio sockets.
mkdir "$t/root"
gcc -O2 -static -o "$t/root/vsock" test/vsock.c || exit 1
$s run tiny --net none -- true 2>/dev/null # made anew if it is old
(cd "$t/root" && echo vsock | cpio -o -H newc --quiet) |
	cat "$XDG_CACHE_HOME/sublet/images/tiny/initrd" - >"$t/initrd"

api() { # MACHINE PATH
	curl -s --max-time 20 --unix-socket "$t/rt/$1/api.sock" "http://x$2"
}
answered() { api "$1" /identity | grep -q '"agent":"answered"'; }
differ() { # LINES...: none twice, none empty
	[ -z "$(printf '%s\n' "$@" | sort | uniq -d)" ] &&
		! printf '%s\n' "$@" | grep -q '^$'
}

$s run tiny --initrd "$t/initrd" --detach --name a --memory 128M --vsock on \
	--console "file=$t/log" >/dev/null || exit 1
await_line 'tiny:' "$t/log"
guest a '/vsock echo 5 & while ! /vsock cid; do sleep 1; done' >/dev/null
guest a 'mkdir -p /etc/sublet/clone.d; cd /etc/sublet/clone.d
printf "#!/bin/sh\necho \$* >/told\n" >one; chmod +x one; cd /' >/dev/null

# ---- virtio sockets ----

check "a stream to the guest" "$(echo hello | timeout 20 $s vsock a 5)" = hello
head -c 20000000 /dev/urandom >"$t/data"
check "20 MB there and back" "$(timeout 60 $s vsock a 5 <"$t/data" | md5sum)" = \
	"$(md5sum <"$t/data")"
# accepts one stream and writes what comes
cat >"$t/sink" <<'END'
import socket, sys, os
s = socket.socket(socket.AF_UNIX)
s.bind(sys.argv[1])
s.listen(1)
open(sys.argv[1] + ".ready", "w").close()
c = s.accept()[0]
n = 0
while True:
    d = c.recv(1 << 20)
    if not d:
        break
    n += len(d)
print(n)
END
timeout 60 python3 "$t/sink" "$t/rt/a/vsock.sock_99" >"$t/count" &
sink=$!
await test -e "$t/rt/a/vsock.sock_99.ready"
guest a '/vsock send 99 16; echo sent=$?' >"$t/out"
wait $sink
check "a stream from the guest" "$(cat "$t/out" "$t/count" | tr '\n' ' ')" = \
	"sent=0 16777216 "
check "a port nobody listens at" -n "$(guest a '/vsock send 98 1' |
	grep -i reset)"
refuse "nobody listens in the guest" 125 "nobody in a listens" $s vsock a 6
refuse "no port" 2 "is not a port" $s vsock a x
refuse "a CID of the host's" 2 "the CID is a number" $s run tiny --vsock cid=2
refuse "nonsense for sockets" 2 "is none of on" $s run tiny --vsock of
refuse "a path that is in use" 125 "cannot listen" $s run tiny --detach \
	--vsock "path=$t/rt/a/vsock.sock"

# ---- two clones ----

$s clone a -n 2 --name c >"$t/out" 2>"$t/err"
check "two clones are told of" "$(grep -c \
	'^c-[12]  generation [0-9a-f]*  mac [0-9a-f:]*  cid [0-9]*  host c-[12]$' \
	"$t/out")" -eq 2
check "and nothing went wrong" ! -s "$t/err"
look='hostname; cat /sys/class/net/eth0/address; /vsock cid;
	head -c 16 /dev/urandom | md5sum'
for m in a c-1 c-2; do guest $m "$look" >"$t/look-$m"; done
line() { sed -n "$1p" "$t/look-$2"; }
check "host names" "$(line 1 c-1) $(line 1 c-2) $(line 1 a)" = "c-1 c-2 tiny"
for w in 2:MACs 3:CIDs "4:random numbers"; do
	l=${w%:*}
	differ "$(line $l a)" "$(line $l c-1)" "$(line $l c-2)"
	check "${w#*:} of their own" $? -eq 0
done
check "the MAC that was told" -n "$(grep "mac $(line 2 c-1) " "$t/out")"
check "the CID that was told" -n "$(grep "$(line 3 c-2 | tr = ' ') " "$t/out")"
check "hooks are told too" -n "$(guest c-1 'cat /told' |
	grep 'id=.* time=.* hostname=c-1 nic=02:00:0a:00:02:0f,')"
check "the parent has heard nothing" -z "$(guest a 'ls /told 2>/dev/null')"
check "a listener outlives it" "$(echo hello | timeout 20 $s vsock c-2 5)" = \
	hello
check "the network goes on" -n "$(guest c-1 'wget -O - http://10.0.2.2:1/' |
	grep refused)"

# ---- how it is asked for ----

$s clone c-1 --name cc --hostname 'node%.example' >"$t/out" 2>&1
check "a host name by a pattern" "$(guest cc-1 hostname)" = node1.example
check "nothing but names" "$($s clone a --name q -n 2 --quiet | tr '\n' ' ')" = \
	"q-1 q-2 "
refuse "no host name" 2 "no pattern" $s clone a --hostname 'a b'
refuse "one host name for two" 2 "no pattern" $s clone a -n 2 --hostname x
$s clone a --name p --paused >"$t/out" 2>&1
check "a paused clone has not answered" -n "$(grep 'not answered yet' "$t/out")"
$s resume p-1
await answered p-1
check "and does when it runs" "$(guest p-1 hostname)" = p-1
guest c-2 'echo false >/etc/sublet/clone.d/one' >/dev/null
check "a hook that fails is told of" -n "$($s clone c-2 --name h |
	grep '(hooks: failed)')"
$s kill cc-1 q-1 q-2 p-1 h-1 >/dev/null

# ---- twenty at once ----

$s clone a -n 20 --name k >"$t/out" 2>"$t/err"
check "twenty clones" "$(grep -c '^k-.* host k-' "$t/out")" -eq 20
for f in 3 5 7 9; do
	check "no two are the same in word $f" "$(grep '^k-' "$t/out" |
		tr -s ' ' | cut -d ' ' -f $f | sort -u | wc -l)" -eq 20
done
check "each is there" "$(for i in $(seq 20); do
	echo "$i" | timeout 20 $s vsock k-$i 5; done | sort -u | wc -l)" -eq 20
for i in $(seq 20); do $s kill k-$i; done

# ---- without an agent; an hour asleep ----

guest a 'date -s @1000000000' >/dev/null
$s clone a --name w >"$t/out" 2>&1
d=$(($(guest w-1 'date +%s') - $(date +%s)))
check "a clock that was wrong" $d -ge -3 -a $d -le 3
guest a 'kill $(pidof sublet-agent)' >/dev/null
$s clone a --name n >"$t/out" 2>&1
check "no agent: that is said" -n "$(grep 'not renewed in 1: host name' \
	"$t/out")"
check "no agent: a MAC for the next start" -n "$(grep '^n-1 .* mac ' "$t/out")"
check "no agent: host name as before" "$(guest n-1 hostname)" = tiny

guest a "date -s @$(($(date +%s) - 3600))" >/dev/null
$s snapshot a "$t/s" >/dev/null
python3 test/age.py "$t/s" 3600
$s snapshot check "$t/s" >/dev/null 2>"$t/err"
check "an hour-old snapshot" ! -s "$t/err"
$s restore "$t/s" --detach --name old >/dev/null
then=$(date +%s)
shown=$(guest old 'date +%s; cat /sys/class/rtc/rtc0/since_epoch')
now=$(date +%s)
for clock in $shown; do
	check "its date is right" "$clock" -ge $((then - 2)) -a "$clock" -le \
		$((now + 2))
done
check "both of its clocks" "$(echo $shown | wc -w)" -eq 2
check "restored, it is who it was" "$(guest old '/vsock cid')" = "$(line 3 a)"
$s restore "$t/s" --detach --name other --renew --vsock cid=4711 >/dev/null
check "or another, if it is asked for" "$(guest other '/vsock cid')" = cid=4711
