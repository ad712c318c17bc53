# What the recipes share. A recipe runs with $OUT (the folder to fill), $TMP (a
# scratch folder) and these functions; it fails by "die SENTENCE".
set -eu
LC_ALL=C; export LC_ALL
PATH=$PATH:/usr/sbin:/sbin

say() { echo "  $*" >&2; }
die() { echo "sublet: image: $*" >&2; exit 1; }
need() {
	for c in "$@"; do
		command -v "$c" >/dev/null || die "the program $c is missing;" \
			"install its Debian package and try again"
	done
}

# Package lists: the system's, or where it has none (a fresh machine, or no
# root to update them) our own, in the scratch folder.
apt_options="-qq -o APT::Sandbox::User=root -o Debug::NoLocking=1"
apt_prepare() {
	need apt-get apt-cache dpkg-deb
	apt-cache show linux-image-cloud-amd64 >/dev/null 2>&1 && return
	say "fetching package lists"
	mkdir -p "$TMP/lists/partial" "$TMP/cache/archives/partial"
	apt_options="$apt_options -o Dir::State::Lists=$TMP/lists
		-o Dir::Cache=$TMP/cache"
	apt-get $apt_options update >"$TMP/log" 2>&1 || {
		tail -3 "$TMP/log" >&2
		die "cannot fetch Debian's package lists; is there a network?"
	}
}

# fetch FOLDER PACKAGE...: downloads and unpacks.
fetch() {
	dir=$1
	shift
	mkdir -p "$TMP/debs"
	rm -f "$TMP"/debs/*.deb
	(cd "$TMP/debs" && apt-get $apt_options download "$@") \
		>"$TMP/log" 2>&1 || {
		grep -E '^(E|W):' "$TMP/log" | tail -3 >&2
		die "cannot download $*; is there a network?"
	}
	for d in "$TMP"/debs/*.deb; do
		dpkg-deb -x "$d" "$dir" || die "cannot unpack $d: disk full?"
	done
}

# fetch_kernel FOLDER META: the kernel package that a metapackage names; sets
# $version.
fetch_kernel() {
	real=$(apt-cache $apt_options depends "$2" |
		sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
	[ -n "$real" ] || die "no kernel package behind $2"
	say "fetching $real"
	fetch "$1" "$real"
	version=${real#linux-image-}
	depmod -b "$1" "$version"
}

# initrd_modules KERNEL-FOLDER INITRD-FOLDER MODULE...: copies the modules and
# what they need, uncompressed, and writes their order to /modules/order.
initrd_modules() {
	kdir=$1 idir=$2
	shift 2
	mkdir -p "$idir/modules"
	for m in "$@"; do
		modprobe -d "$kdir" -S "$version" --show-depends "$m" ||
			die "the kernel package has no module $m"
	done | sed -n 's/^insmod \([^ ]*\).*/\1/p' | awk '!seen[$0]++' |
		while read -r f; do
			n=${f##*/}
			case $n in
			*.xz) n=${n%.xz}; xz -dc "$f" >"$idir/modules/$n" ;;
			*) cp "$f" "$idir/modules/$n" ;;
			esac
			echo "$n"
		done >"$idir/modules/order"
}

# initrd_pack FOLDER: to $OUT/initrd.
initrd_pack() {
	(cd "$1" && find . | sort | cpio -o -H newc --quiet -R 0:0) \
		>"$OUT/initrd" || die "cannot write the initrd: disk full?"
}

# agent ROOT: what takes a new identity from the host when the machine was
# cloned or restored (docs/snapshots.md). It sleeps in a read until then.
agent() {
	mkdir -p "$1/usr/libexec" "$1/etc/sublet/clone.d"
	cat >"$1/usr/libexec/sublet-agent" <<'AGENT'
#!/bin/sh
# Takes this machine's new identity from the host, a line for each time it was
# cloned or restored, and answers what became of it.
port= tries=0
while [ -z "$port" ] && [ $tries -lt 20 ]; do
	[ $tries = 0 ] || sleep 0.2
	tries=$((tries + 1))
	for p in /sys/class/virtio-ports/*; do
		[ -f "$p/name" ] && read -r n <"$p/name" &&
			[ "$n" = org.sublet.agent ] && port=/dev/${p##*/}
	done
done
[ -n "$port" ] && exec 3<>"$port" || exit 0

set_time() { # SECONDS.NANOSECONDS, of which a second or two do not matter
	s=${1%.*}
	d=$(($(date +%s) - s))
	{ [ $d -ge -2 ] && [ $d -le 2 ]; } || date -s "@$s"
}
set_hostname() {
	read -r old </proc/sys/kernel/hostname
	echo "$1" >/proc/sys/kernel/hostname || return 1
	[ ! -f /etc/hostname ] || echo "$1" >/etc/hostname
	[ ! -f /etc/hosts ] || sed -i \
		"s/\([[:space:]]\)$old\([[:space:]]\|$\)/\1$1\2/" /etc/hosts
}
set_nic() { # OLD,NEW
	for i in /sys/class/net/*; do
		read -r a <"$i/address"
		[ "$a" = "${1%,*}" ] || continue
		ip link set dev "${i##*/}" address "${1#*,}"
		return
	done
	return 1
}
run_hooks() { # KEY=VALUE...
	bad=0
	for h in /etc/sublet/clone.d/*; do
		[ ! -x "$h" ] || "$h" "$@" || bad=1
	done
	return $bad
}

while read -r word id rest <&3; do
	[ "$word" = renew ] || continue
	/usr/libexec/sublet-reseed "$id" && r=ok || r=failed
	answer="renewed $id random=$r"
	for w in $rest; do
		case $w in
		time=* | hostname=* | nic=*)
			set_${w%%=*} "${w#*=}" && r=ok || r=failed
			answer="$answer ${w%%=*}=$r" ;;
		esac
	done
	run_hooks $id $rest && r=ok || r=failed
	echo "$answer hooks=$r" >&3
done >/dev/null 2>&1
AGENT
	cp "$TMP/reseed" "$1/usr/libexec/sublet-reseed"
	chmod 755 "$1/usr/libexec/sublet-agent" "$1/usr/libexec/sublet-reseed"
}

busybox_tree() {
	mkdir -p "$1"/bin "$1"/proc "$1"/sys "$1"/dev "$1"/tmp "$1"/root \
		"$1"/etc "$1"/run "$1"/mnt
	fetch "$TMP/busybox" busybox-static
	for b in bin/busybox usr/bin/busybox; do
		[ -f "$TMP/busybox/$b" ] && cp "$TMP/busybox/$b" "$1/bin/busybox"
	done
	[ -x "$1/bin/busybox" ] || die "busybox-static has no busybox"
	ln -s busybox "$1/bin/sh"
}
