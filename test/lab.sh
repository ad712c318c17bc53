#!/bin/bash
# The KVM engine on a real KVM, in the lab (docs/lab.md): unit tests, guest
# programs, guests moved between engines, Linux with one, two and four vCPUs.
# Skipped where there can be no lab.
#
# Two machines run side by side: one with one CPU, and one with two for what
# needs two vCPUs at once. Every step has a time limit of its own and fails if
# it hangs. Only if the emulated machine itself dies is its part run once more,
# and a line says so; a third machine is there to die.
set -u
cd "$(dirname "$0")/.."
export B=${B:-build}
export tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

# A guest's root: says what it sees and ends the VM.
mkdir -p "$tmp/root/bin" "$tmp/root/proc"
cp "$(command -v busybox)" "$tmp/root/bin/busybox"
cat >"$tmp/root/init" <<'EOF'
#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
echo "INIT $(/bin/busybox nproc) $(/bin/busybox uname -s)"
/bin/busybox poweroff -f
EOF
chmod +x "$tmp/root/init"
(cd "$tmp/root" && find . | cpio -o -H newc --quiet) >"$tmp/initrd"

# Another, whose /dev/kvm runs a guest of its own.
gcc -O1 -static -o "$tmp/nested" test/nested.c
cat >"$tmp/nested.init" <<'EOF'
#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
for m in irqbypass kvm ccp kvm-amd; do /bin/busybox insmod /m/$m.ko; done
/nested
/bin/busybox poweroff -f
EOF
chmod +x "$tmp/nested.init"

# A guest that checks itself, to be moved between the engines.
mkdir "$tmp/load"
gcc -O2 -static -pthread -o "$tmp/load/init" test/load.c
(cd "$tmp/load" && find . | cpio -o -H newc --quiet) >"$tmp/load.initrd"

# What both machines' scripts use.
cat >"$tmp/lib" <<'EOF'
out=$(mktemp)
step() { # SECONDS NAME COMMAND...: succeeds within so many seconds
	local limit=$1 name=$2 start=$SECONDS rc
	shift 2
	timeout $limit "$@" >$out 2>&1 </dev/null
	rc=$?
	if [ $rc = 0 ]; then
		echo "ok $name, $((SECONDS - start)) s"
		return
	fi
	echo "not ok $name (exit code $rc)"
	tail -30 $out
}
boot() { # INITRD TEXT OPTIONS...: a Linux whose init prints this
	local initrd=$1 text=$2
	shift 2
	$B/sublet run --engine kvm --memory 256M --initrd $initrd \
		--kernel $LAB_KERNEL/vmlinux "$@" \
		--append "console=ttyS0 quiet panic=-1" >$out.boot 2>&1
	cat $out.boot
	grep -q "^$text" $out.boot
}
linux() { # CPUS
	boot $tmp/initrd "INIT $1 Linux" --cpus $1
}
nested() {
	mkdir -p /tmp/n/bin /tmp/n/m /tmp/n/dev
	cp $tmp/root/bin/busybox /tmp/n/bin/
	cp $tmp/nested /tmp/n/
	cp $tmp/nested.init /tmp/n/init
	for m in irqbypass kvm ccp kvm-amd; do
		cp $LAB_KERNEL/initrd.d/m/$m.ko /tmp/n/m/
	done
	(cd /tmp/n && find . | cpio -o -H newc --quiet) >/tmp/n.initrd
	boot /tmp/n.initrd "NESTED exit 2 port 10 value 42" --nested
}
doctor() {
	$B/sublet doctor
	$B/sublet doctor | grep -qi kvm
}
# Disk and network, whose notifications KVM passes on without an exit, and the
# monitor's own memory when both have been used.
notify() {
	test/io/initrd /tmp/io.initrd
	truncate -s 8M /tmp/disk
	mkdir /tmp/www
	head -c 4M /dev/zero >/tmp/www/file
	busybox httpd -p 127.0.0.1:8000 -h /tmp/www
	$B/sublet run --engine kvm --memory 256M --disk /tmp/disk \
		--kernel $LAB_KERNEL/vmlinux --initrd /tmp/io.initrd \
		--append "console=ttyS0 quiet panic=-1 io.size=8 io.count=100 \
			io.stay=3" --trace exits &
	until grep -q "^IO done" $out.io; do
		sleep 0.2
		kill -0 $! || return
	done
	awk '/^Rss(Anon|File)/ { n += $2 } END { print "MEMORY", n }' \
		/proc/$!/status
	wait $!
}
without_exits() {
	notify >$out.io 2>&1
	cat $out.io
	grep -q "^IO done" $out.io && ! grep -q "^IO .*failed" $out.io &&
		awk '$1 == "MEMORY" { n = $2 } END { exit !n || n > 4096 }' $out.io &&
		grep "^virtio-blk0 queue 0: [1-9].*wake-ups, 0 exits" $out.io &&
		grep "^virtio-net0 queue 1: [1-9].*wake-ups, 0 exits" $out.io
}
export -f boot linux nested doctor notify without_exits
export out GUEST_TIMEOUT=40
EOF

cat >"$tmp/machine1" <<'EOF'
. $tmp/lib
step 10 "doctor speaks of KVM" bash -c doctor
step 60 "CPU affinity, shares, quota" $B/vm/sched_test
test/guest.sh kvm 2
GUEST_TIMEOUT=100 ONLY=smp_many test/guest.sh kvm 64
step 120 "guests moved between engines" $B/vm/switch_test
for n in 1 2 4; do
	step 90 "Linux with $n vCPUs" bash -c "linux $n"
done
step 90 "disk and network: no exits to notify, at most 4 MiB of memory" bash -c without_exits
step 120 "a guest's own KVM runs a guest" bash -c nested
LOAD_INITRD=$tmp/load.initrd timeout 200 test/migrate-engines.sh
[ $? = 124 ] && echo "not ok live migration between engines: no time"
true
EOF

cat >"$tmp/machine2" <<'EOF'
. $tmp/lib
step 60 "KVM engine's unit tests" $B/cpu/kvm/kvm_test
step 60 "what is said when KVM cannot go on" $B/cpu/kvm/kvm_report_test
for n in 2 4; do ONLY=smp test/guest.sh kvm $n; done
EOF

# Dies the first time, to see that it is then run once more.
cat >"$tmp/mortal" <<'EOF'
if mkdir $tmp/died 2>/dev/null; then
	echo "not ok the lab's machine dies"
	sync
	echo c >/proc/sysrq-trigger
	sleep 60
fi
echo "ok the lab's machine died and was run once more"
EOF

machine() { # SCRIPT CPUS
	tools/lab --smp $2 --share . --share "$tmp" --timeout 500 -- \
		"tmp=$tmp B=$B bash $tmp/$1" >"$tmp/$1.out" 2>"$tmp/$1.err"
	echo $? >"$tmp/$1.rc"
}

report() { # SCRIPT CPUS
	local rc=$(cat "$tmp/$1.rc") why=$(grep '^lab: ' "$tmp/$1.err" | tail -1)
	why=${why#lab: }
	if [ $rc = 125 ] && [ ! -e "$tmp/$1.again" ]; then
		: >"$tmp/$1.again"
		echo "# the lab's machine died ($why): its part once more"
		machine "$@"
		report "$@"
		return
	fi
	cat "$tmp/$1.out"
	case $rc in
	0) ;;
	77) echo "skip lab, $1: $why" ;;
	*)
		echo "not ok lab, $1 (exit code $rc)"
		tail -30 "$tmp/$1.err"
		;;
	esac
}

# Once, so that two do not download and unpack the same.
tools/lab -- true >/dev/null 2>&1
machine machine1 1 &
machine machine2 2
machine mortal 1
wait
report machine1 1
report machine2 2
report mortal 1
