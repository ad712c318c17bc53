"""age.py SNAPSHOT SECONDS: makes a snapshot that much older: its wall clock
(real_ns of the record vm) is set back and the checksums are made right."""
import json
import struct
import sys

TABLE = []
for i in range(256):
    for _ in range(8):
        i = i >> 1 ^ (0x82F63B78 if i & 1 else 0)
    TABLE.append(i)


def crc32c(data):
    crc = 0xFFFFFFFF
    for b in data:
        crc = crc >> 8 ^ TABLE[(crc ^ b) & 255]
    return crc ^ 0xFFFFFFFF


def age_record(state, at, length, seconds):
    """docs/snapshots.md has the layout; true if this is the one."""
    payload, fields, name_len = struct.unpack_from("<IHB", state, at + 24)
    pos = at + 32
    if state[pos:pos + name_len] != b"vm":
        return False
    pos += name_len
    value = at + length - payload
    for _ in range(fields):
        n, size, _, _, count = struct.unpack_from("<BBBBI", state, pos)
        if state[pos + 8:pos + 8 + n] == b"real_ns":
            old = struct.unpack_from("<Q", state, value)[0]
            struct.pack_into("<Q", state, value, old - seconds * 10**9)
        value += size * count
        pos += 8 + n
    struct.pack_into("<I", state, at + 4, crc32c(state[at + 8:at + length]))
    return True


folder, seconds = sys.argv[1], int(sys.argv[2])
with open(folder + "/state", "r+b") as f:
    state = bytearray(f.read())
    at = 48
    while True:
        length = struct.unpack_from("<I", state, at + 8)[0]
        if age_record(state, at, length, seconds):
            break
        at += length
    f.seek(0)
    f.write(state)
with open(folder + "/manifest.json", "r+") as f:
    manifest = json.load(f)
    manifest["state"]["crc32c"] = crc32c(state)
    del manifest["crc32c"]
    text = json.dumps(manifest, separators=(",", ":"), sort_keys=True)
    manifest["crc32c"] = crc32c(text.encode())
    f.seek(0)
    f.truncate()
    json.dump(manifest, f)
