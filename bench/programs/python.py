# SPDX-License-Identifier: BSD-2-Clause
# What Python programs do: words in dicts, classes, floats, closures, sorting.
import re


class Body:
    def __init__(self, x, v, m):
        self.x, self.v, self.m = x, v, m

    def pull(self, other, dt):
        d = [a - b for a, b in zip(self.x, other.x)]
        f = dt / (d[0] * d[0] + d[1] * d[1] + d[2] * d[2] + 0.01) ** 1.5
        for i in range(3):
            self.v[i] -= d[i] * other.m * f
            other.v[i] += d[i] * self.m * f


def bodies(steps):
    b = [Body([i * 1.5, -i, i * i * 0.3], [0.1 * i, 0.2, 0], 1 + i)
         for i in range(5)]
    for _ in range(steps):
        for i, p in enumerate(b):
            for q in b[i + 1:]:
                p.pull(q, 0.001)
        for p in b:
            p.x = [x + 0.001 * v for x, v in zip(p.x, p.v)]
    return sum(p.x[0] for p in b)


def words(n):
    text = " ".join("w%d-%x" % (i * i % 977, i % 13) for i in range(n))
    count = {}
    for w in re.findall(r"[a-z]+(\d+)-", text):
        count[w] = count.get(w, 0) + 1
    return sorted(count.items(), key=lambda p: (-p[1], p[0]))[:3]


def queens(n, row=0, cols=0, left=0, right=0):
    if row == n:
        return 1
    free, total = ~(cols | left | right) & ((1 << n) - 1), 0
    while free:
        bit = free & -free
        free ^= bit
        total += queens(n, row + 1, cols | bit, (left | bit) << 1,
                        (right | bit) >> 1)
    return total


print("%.3f" % bodies(2000), words(60000), queens(9), pow(3, 5000) % 1000007)
