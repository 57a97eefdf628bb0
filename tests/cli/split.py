"""split: a GGUF file cut into several, as published models are."""
import pathlib
import struct

SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
ALIGNMENT = 32


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, n):
        self.at += n
        return self.data[self.at - n:self.at]

    def number(self, form):
        return struct.unpack("<" + form, self.take(struct.calcsize(form)))[0]

    def string(self):
        return self.take(self.number("Q"))

    def skip(self, kind):
        if kind == 8:
            self.string()
        elif kind == 9:
            element, n = self.number("I"), self.number("Q")
            for _ in range(n if element in (8, 9) else 0):
                self.skip(element)
            self.take(SIZES.get(element, 0) * n)
        else:
            self.take(SIZES[kind])


def aligned(data):
    return data + bytes(-len(data) % ALIGNMENT)


def string(text):
    return struct.pack("<Q", len(text)) + text


def keys(n, i, total):
    return b"".join(string(name) + struct.pack(form, kind, value) for name, form, kind, value in (
        (b"split.no", "<IH", 2, i), (b"split.count", "<IH", 2, n), (b"split.tensors.count", "<Ii", 5, total)))


def split(model, prefix, n):
    """The paths of n files with as many tensors each; the metadata is in the first."""
    r = Reader(pathlib.Path(model).read_bytes())
    magic, version, n_tensors, n_keys = r.take(4), r.number("I"), r.number("Q"), r.number("Q")
    begin = r.at
    for _ in range(n_keys):
        r.string()
        r.skip(r.number("I"))
    metadata, tensors = r.data[begin:r.at], []
    for _ in range(n_tensors):
        name, dims = r.string(), r.number("I")
        tensors.append([name, r.take(8 * dims), r.take(4), r.number("Q")])
    base = -(-r.at // ALIGNMENT) * ALIGNMENT
    ends = sorted(t[3] for t in tensors) + [len(r.data) - base]
    paths = []
    for i in range(n):
        own = tensors[i * n_tensors // n:(i + 1) * n_tensors // n]
        infos = blob = b""
        for name, dims, kind, offset in own:
            infos += string(name) + struct.pack("<I", len(dims) // 8) + dims + kind + struct.pack("<Q", len(blob))
            blob += aligned(r.data[base + offset:base + ends[ends.index(offset) + 1]])
        head = magic + struct.pack("<IQQ", version, len(own), 3 + (n_keys if i == 0 else 0))
        head += (metadata if i == 0 else b"") + keys(n, i, n_tensors) + infos
        paths.append(pathlib.Path(f"{prefix}-{i + 1:05}-of-{n:05}.gguf"))
        paths[-1].write_bytes(aligned(head) + blob)
    return paths
