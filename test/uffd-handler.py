#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""uffd-handler - gives a restored machine its memory, page by page.

uffd-handler.py SOCKET MEMORY [PAGES]

Listens at SOCKET for one machine, whose memory is in the file MEMORY, by
Firecracker's protocol: one message, a JSON array of regions and with it a
userfaultfd. Ends with the machine; or, with PAGES, by itself after so many
faults, as a handler does that crashes. Prints how many it answered.
"""
import ctypes
import fcntl
import json
import mmap
import os
import select
import socket
import struct
import sys

UFFDIO_COPY = 0xc028aa03
UFFDIO_ZEROPAGE = 0xc020aa04
UFFD_EVENT_PAGEFAULT = 0x12
EVENT = struct.Struct("<B7xQQQ")  # struct uffd_msg: event, flags, address


def listen(path):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    s.bind(path)
    s.listen(1)
    return s


def accept(s):
    peer = s.accept()[0]
    text, fds, _, _ = socket.recv_fds(peer, 65536, 1)
    return peer, json.loads(text), fds[0]


def find(regions, address):
    for r in regions:
        base = r["base_host_virt_addr"]
        if base <= address < base + r["size"]:
            page = address & ~(r["page_size"] - 1)
            return page, page - base + r["offset"], r["page_size"]
    sys.exit("a fault at %#x, which is in no region" % address)


def put(uffd, to, memory, start, off, size):
    try:
        if memory[off:off + size].count(0) == size:
            fcntl.ioctl(uffd, UFFDIO_ZEROPAGE,
                        bytearray(struct.pack("<QQQq", to, size, 0, 0)))
        else:
            fcntl.ioctl(uffd, UFFDIO_COPY, bytearray(
                struct.pack("<QQQQq", to, start + off, size, 0, 0)))
    except FileExistsError:
        pass  # two touched it


def serve(peer, regions, uffd, memory, limit):
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    n = 0
    while n != limit:
        ready = select.select([uffd, peer], [], [])[0]
        if peer in ready and not peer.recv(4096):
            break
        if uffd not in ready:
            continue
        try:
            event, _, address, _ = EVENT.unpack(os.read(uffd, EVENT.size))
        except BlockingIOError:
            continue
        if event == UFFD_EVENT_PAGEFAULT:
            put(uffd, *find(regions, address)[:1], memory, start,
                *find(regions, address)[1:])
            n += 1
    return n


def main():
    limit = int(sys.argv[3]) if len(sys.argv) > 3 else -1
    with open(sys.argv[2], "rb") as f:
        memory = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_COPY)
    peer, regions, uffd = accept(listen(sys.argv[1]))
    print(json.dumps(regions), flush=True)
    print("answered %d" % serve(peer, regions, uffd, memory, limit))


main()
