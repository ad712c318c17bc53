# debian: Debian 12 with systemd on an ext4 disk, the cloud kernel, a login.
need cpio xz depmod modprobe mmdebstrap mke2fs
apt_prepare
fetch_kernel "$TMP/kernel" linux-image-cloud-amd64
cp "$TMP/kernel/boot/vmlinuz-$version" "$OUT/kernel"

say "installing Debian 12 (about a minute)"
mode=root
[ "$(id -u)" = 0 ] || mode=unshare
# The disk is made in the last hook, where file owners are what they will be.
cat >"$TMP/finish" <<'HOOK'
#!/bin/sh
set -eu
root=$1
echo debian >"$root/etc/hostname"
printf '127.0.0.1 localhost debian\n' >"$root/etc/hosts"
printf '/dev/vda / ext4 defaults 0 1\n' >"$root/etc/fstab"
mkdir -p "$root/etc/systemd/network" "$root/lib/modules"
printf '[Match]\nName=e*\n[Network]\nDHCP=yes\n' \
	>"$root/etc/systemd/network/80-dhcp.network"
cat >"$root/etc/systemd/system/sublet-agent.service" <<'UNIT'
[Unit]
Description=Takes a new identity from the host after cloning

[Service]
ExecStart=/usr/libexec/sublet-agent

[Install]
WantedBy=multi-user.target
UNIT
chroot "$root" passwd -d root >/dev/null
chroot "$root" systemctl -q enable systemd-networkd systemd-resolved \
	serial-getty@hvc0.service sublet-agent.service
ln -sf ../run/systemd/resolve/resolv.conf "$root/etc/resolv.conf"
printf 'Debian GNU/Linux 12 \\n \\l - log in as root, no password\n\n' \
	>"$root/etc/issue"
rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/*
HOOK
# A plain bind mount leaves out /proc and what else is mounted below.
cat >"$TMP/disk" <<HOOK
#!/bin/sh
set -eu
mkdir -p "$TMP/bind"
unshare -m sh -c "mount --bind '\$1' '$TMP/bind' &&
	mke2fs -q -t ext4 -L root -d '$TMP/bind' '$TMP/disk.raw' 3G"
HOOK
chmod 755 "$TMP/finish" "$TMP/disk"
(cd "$TMP/kernel" && tar cf "$TMP/modules.tar" lib/modules)
agent "$TMP/agent"
tar -C "$TMP/agent" -rf "$TMP/modules.tar" usr etc
mmdebstrap --quiet --mode=$mode --variant=minbase \
	--include=systemd,systemd-sysv,systemd-resolved,udev,dbus,kmod,iproute2,iputils-ping,procps,login,passwd,less,nano-tiny,ca-certificates,e2fsprogs \
	--customize-hook="tar -C \"\$1\" --keep-directory-symlink -xf '$TMP/modules.tar'" \
	--customize-hook="'$TMP/finish' \"\$1\"" \
	--customize-hook="'$TMP/disk' \"\$1\"" \
	bookworm /dev/null >"$TMP/log" 2>&1 || {
	grep -E '^[EW]:' "$TMP/log" | tail -5 >&2
	die "installing Debian failed; is there a network, and room on the disk?"
}
cp --sparse=always "$TMP/disk.raw" "$OUT/disk.raw" || die "disk full?"

say "making the initrd"
r=$TMP/root
busybox_tree "$r"
initrd_modules "$TMP/kernel" "$r" virtio_pci virtio_console virtio_blk \
	virtio_rng
cat >"$r/init" <<'INIT'
#!/bin/busybox sh
# Loads the disk's driver and goes over to the root file system on it.
bb=/bin/busybox
$bb mount -t proc proc /proc
$bb mount -t sysfs sys /sys
$bb mount -t devtmpfs dev /dev
while read -r m; do $bb insmod "/modules/$m"; done </modules/order
i=0
while [ ! -b /dev/vda ] && [ $i -lt 100 ]; do
	i=$((i + 1))
	$bb sleep 0.1
done
$bb mount -t ext4 /dev/vda /mnt || {
	echo "init: no root file system on /dev/vda"
	exec $bb sh
}
$bb umount /proc
$bb mount --move /sys /mnt/sys
$bb mount --move /dev /mnt/dev
exec $bb switch_root /mnt /sbin/init
INIT
chmod 755 "$r/init"
initrd_pack "$r"
echo "console=ttyS0 quiet" >"$OUT/cmdline"
printf 'memory 512M\n' >"$OUT/options"
