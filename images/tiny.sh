# tiny: Debian's cloud kernel, busybox, the virtio modules.
need cpio xz depmod modprobe
apt_prepare
fetch_kernel "$TMP/kernel" linux-image-cloud-amd64
cp "$TMP/kernel/boot/vmlinuz-$version" "$OUT/kernel"
say "making the initrd"
r=$TMP/root
busybox_tree "$r"
initrd_modules "$TMP/kernel" "$r" button evdev
mv "$r/modules/order" "$r/modules/order.button"
initrd_modules "$TMP/kernel" "$r" vmw_vsock_virtio_transport
mv "$r/modules/order" "$r/modules/order.vsock"
initrd_modules "$TMP/kernel" "$r" virtio_pci virtio_console virtio_blk \
	virtio_net virtio_rng
cat >"$r/init" <<'INIT'
#!/bin/busybox sh
# Mounts, loads modules, then runs the host's command or a shell.
bb=/bin/busybox
$bb mount -t proc proc /proc
$bb mount -t sysfs sys /sys
$bb mount -t devtmpfs dev /dev
while read -r m; do $bb insmod "/modules/$m" 2>/dev/null; done </modules/order
$bb --install -s /bin
export PATH=/bin HOME=/root TERM=linux USER=root
for d in /sys/bus/virtio/devices/*/device; do
	[ -f "$d" ] && read -r id <"$d" && [ "$id" = 0x0013 ] || continue
	while read -r m; do insmod "/modules/$m" 2>/dev/null; done \
		</modules/order.vsock
done
mkdir -p /dev/pts /dev/shm /dev/virtio-ports
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
hostname tiny
ip link set lo up

# The host's named ports come a moment after the driver.
ports() {
	for p in /sys/class/virtio-ports/*; do
		[ -f "$p/name" ] || continue
		read -r n <"$p/name" && ln -sf "../${p##*/}" "/dev/virtio-ports/$n"
	done
}
v=/dev/virtio-ports
case " $(cat /proc/cmdline) " in *" sublet.command "*)
	i=0
	while ports; [ ! -e $v/org.sublet.exit ] && [ $i -lt 50 ]; do
		i=$((i + 1))
		sleep 0.1
	done ;;
esac

if [ -e /sys/class/net/eth0 ]; then
	ip link set eth0 up
	udhcpc -i eth0 -q -n -t 20 -T 1 -s /etc/udhcpc >/dev/null 2>&1 &
	net=$!
fi

if [ -e $v/org.sublet.exit ]; then
	[ -z "${net:-}" ] || wait "$net"
	read -r line <$v/org.sublet.cmd
	command=$(echo "$line" | base64 -d)
	cd /root
	setsid sh -c "$command" <$v/org.sublet.stdin >$v/org.sublet.stdout \
		2>$v/org.sublet.stderr
	echo $? >$v/org.sublet.exit
	poweroff -f
fi

/usr/libexec/sublet-agent &

# The power button (sublet stop) ends it.
(
	while read -r m; do insmod "/modules/$m"; done </modules/order.button
	mkdir -p /etc/acpi/PWRF
	printf '#!/bin/sh\npoweroff -f\n' >/etc/acpi/PWRF/00000080
	chmod +x /etc/acpi/PWRF/00000080
	exec acpid -d
) >/dev/null 2>&1 &

tty=ttyS0
[ -c /dev/hvc0 ] && tty=hvc0
while :; do
	echo
	echo "This is a virtual machine: Linux $(uname -r), $(nproc) CPU," \
		"$(($(sed -n 's/MemTotal: *\([0-9]*\).*/\1/p' /proc/meminfo) \
		/ 1024)) MiB. Type exit to end it."
	cd /root
	setsid -c sh -l <>/dev/$tty >&0 2>&1
	poweroff -f
	sleep 10
done
INIT
agent "$r"
cat >"$r/etc/udhcpc" <<'DHCP'
#!/bin/sh
[ "$1" = bound ] || [ "$1" = renew ] || exit 0
ip addr flush dev "$interface"
ip addr add "$ip/${mask:-24}" dev "$interface"
[ -z "$router" ] || ip route add default via "${router%% *}"
: >/etc/resolv.conf
for d in $dns; do echo "nameserver $d" >>/etc/resolv.conf; done
DHCP
echo 'root:x:0:0:root:/root:/bin/sh' >"$r/etc/passwd"
echo 'root:x:0:' >"$r/etc/group"
printf "PS1='tiny:\\\\w# '\n" >"$r/etc/profile"
chmod 755 "$r/init" "$r/etc/udhcpc"
initrd_pack "$r"
# The trace files of an event each would take 9 MiB, of 64.
echo "console=ttyS0 quiet initcall_blacklist=tracer_init_tracefs" \
	>"$OUT/cmdline"
echo "command" >"$OUT/options"
