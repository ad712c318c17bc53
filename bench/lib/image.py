# SPDX-License-Identifier: BSD-2-Clause
"""What the benchmark runs: the workloads' program, the root file system with
Debian's programs, and the guests' initial RAM disk."""
import glob
import hashlib
import os
import shutil
import subprocess

TOP = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))
CACHE = os.path.join(os.environ.get("XDG_CACHE_HOME") or
                     os.path.expanduser("~/.cache"), "sublet")
TINY = CACHE + "/images/tiny"

# The guest's init: mounts the disk, reads what is on it once, so that no
# workload waits for it, and runs the workloads that the command line names.
INIT = """#!/bin/busybox sh
b=/bin/busybox
echo BENCH-INIT
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t devtmpfs dev /dev
while read -r m; do $b insmod /modules/$m 2>/dev/null; done </modules/order
$b sleep 1
echo BENCH-IDLE
$b sleep 1
while [ ! -b /dev/vda ]; do $b sleep 0.1; done
$b mount -t ext4 -o ro /dev/vda /mnt
$b mount -t tmpfs tmp /mnt/tmp
$b mount -o bind /dev /mnt/dev
$b mount -t proc proc /mnt/proc
$b cp /work /mnt/tmp
names=$($b sed -n 's/.*bench=\\([^ ]*\\).*/\\1/p' /proc/cmdline | $b tr , ' ')
if $b grep -q bench.warm /proc/cmdline; then
    $b find /mnt/bin /mnt/lib /mnt/usr /mnt/programs -type f |
        $b xargs $b cat >/dev/null
fi
$b chroot /mnt /tmp/work $names
echo BENCH-DONE
$b sleep 2
$b poweroff -f
"""


def digest(files):
    h = hashlib.sha256()
    for name in sorted(files):
        with open(name, "rb") as f:
            h.update(f.read())
    return h.hexdigest()[:12]


def root():
    """The folder with root/ and disk, made if it is missing or outdated."""
    script = TOP + "/bench/image"
    want = CACHE + "/bench/" + digest(
        [script] + glob.glob(TOP + "/bench/programs/*"))
    if not os.path.isdir(want):
        os.makedirs(os.path.dirname(want), exist_ok=True)
        for old in glob.glob(CACHE + "/bench/*"):
            shutil.rmtree(old, ignore_errors=True)
        subprocess.run([script, want], check=True)
    return want


def work(tmp):
    """Compiles the workloads' program."""
    name = tmp + "/work"
    subprocess.run(["gcc", "-O2", "-static", "-o", name] +
                   glob.glob(TOP + "/bench/work/*.c"), check=True)
    return name


def initrd(tmp, program):
    """The image tiny's, and the workloads."""
    extra = tmp + "/initrd.d"
    os.mkdir(extra)
    shutil.copy(program, extra + "/work")
    with open(extra + "/bench-init", "w") as f:
        f.write(INIT)
    os.chmod(extra + "/bench-init", 0o755)
    archive = subprocess.run("find . | cpio -o -H newc --quiet", shell=True,
                             cwd=extra, stdout=subprocess.PIPE,
                             check=True).stdout
    with open(TINY + "/initrd", "rb") as f:
        base = f.read()
    name = tmp + "/initrd"
    with open(name, "wb") as f:
        f.write(base + b"\0" * (-len(base) % 4) + archive)
    return name
