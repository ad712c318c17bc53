#!/bin/bash
# The KVM engine on a real KVM, in the lab (docs/lab.md): unit tests, guest
# programs, guests moved between engines, Linux with one, two and four vCPUs.
# Skipped where there can be no lab.
set -u
cd "$(dirname "$0")/.."
export B=${B:-build}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

# A guest's root: says what it sees and ends the VM with code 42.
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

cat >"$tmp/inside" <<'EOF'
result() { # RC NAME
	if [ "$1" = 0 ]; then echo "ok $2"; else echo "not ok $2"; fi
}
linux() { # CPUS
	timeout 150 $B/sublet run --engine kvm --cpus $1 --memory 256M \
		--kernel $LAB_KERNEL/vmlinux --initrd $tmp/initrd \
		--append "console=ttyS0 quiet panic=-1" >$tmp/linux 2>&1 \
		</dev/null
	grep -q "^INIT $1 Linux" $tmp/linux
	rc=$?
	[ $rc = 0 ] || tail -30 $tmp/linux
	result $rc "Linux with $1 vCPUs"
}
timeout 60 $B/cpu/kvm/kvm_test >$tmp/out 2>&1; rc=$?
[ $rc = 0 ] || tail -40 $tmp/out
result $rc "KVM engine's unit tests"
timeout 60 $B/vm/sched_test >$tmp/out 2>&1; rc=$?
[ $rc = 0 ] || tail -40 $tmp/out
result $rc "CPU affinity, quota, core scheduling"
$B/sublet doctor >$tmp/out 2>&1
grep -qi "kvm" $tmp/out; result $? "doctor speaks of KVM"
test/guest.sh kvm 2
test/guest.sh kvm 4 2>&1 | grep smp
timeout 150 $B/vm/switch_test >$tmp/out 2>&1; rc=$?
[ $rc = 0 ] || tail -40 $tmp/out
result $rc "guests moved between engines"
for n in 1 2 4; do linux $n; done
nested() {
	mkdir -p $tmp/n/bin $tmp/n/m $tmp/n/dev
	cp $tmp/root/bin/busybox $tmp/n/bin/
	cp $tmp/nested $tmp/n/
	cp $tmp/nested.init $tmp/n/init
	for m in irqbypass kvm ccp kvm-amd; do
		cp $LAB_KERNEL/initrd.d/m/$m.ko $tmp/n/m/
	done
	(cd $tmp/n && find . | cpio -o -H newc --quiet) >$tmp/n.initrd
	timeout 150 $B/sublet run --engine kvm --nested --memory 256M \
		--kernel $LAB_KERNEL/vmlinux --initrd $tmp/n.initrd \
		--append "console=ttyS0 quiet panic=-1" >$tmp/out 2>&1 \
		</dev/null
	grep -q "NESTED exit 2 port 10 value 42" $tmp/out
	rc=$?
	[ $rc = 0 ] || tail -30 $tmp/out
	result $rc "a guest's own KVM runs a guest"
}
nested
EOF

export tmp
tools/lab --smp 2 --share . --share "$tmp" --timeout 500 -- \
	"tmp=$tmp B=$B bash $tmp/inside" 2>"$tmp/err"
rc=$?
case $rc in
0) ;;
77) echo "skip lab: $(sed 's/^lab: //' "$tmp/err")" ;;
*)
	echo "not ok lab (exit code $rc)"
	tail -30 "$tmp/err"
	;;
esac
