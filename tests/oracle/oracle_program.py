"""Asks the finegemm program for what numpy and ml_dtypes give from the definition (docs/numerics.md).

    python3 oracle_program.py FINEGEMM

Needs numpy, ml_dtypes and safetensors. Nothing of finegemm but its program takes part: FP8 and BF16 are those of ml_dtypes, files
are read by the safetensors package, and the arithmetic stands below.
"""

import itertools
import json
import math
import pathlib
import struct
import subprocess
import sys
import tempfile
from fractions import Fraction

import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy

BLOCK = 128
FP8 = {"e4m3": ml_dtypes.float8_e4m3fn, "e5m2": ml_dtypes.float8_e5m2}
LARGEST = {"e4m3": np.float32(448), "e5m2": np.float32(57344)}
OUT = {"f32": np.float32, "f16": np.float16, "bf16": ml_dtypes.bfloat16}
SCALINGS = ("1x128", "128x128", "tensor")
NAMES = {"F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16, "F8_E4M3": FP8["e4m3"], "F8_E5M2": FP8["e5m2"]}


# --- Arithmetic


def fma(a, b, c):
    """RN(a * b + c) of float32 arrays. The product is exact in float64; the sum is rounded to odd there, so that rounding it
    once more to float32 is the one rounding that counts."""
    product = a.astype(np.float64) * b.astype(np.float64)
    addend = c.astype(np.float64)
    total = product + addend
    virtual = total - product
    error = (product - (total - virtual)) + (addend - virtual)
    bits = total.view(np.int64)
    inexact = np.isfinite(total) & (error != 0) & (bits & 1 == 0)
    away = (error > 0) == (total > 0)
    bits = np.where(inexact, np.where(away, bits + 1, bits - 1), bits)
    return bits.view(np.float64).astype(np.float32)


def nearest_float32(x):
    """A Fraction to float32, by looking at the neighbours: slow, and sees nothing of the above."""
    guess = np.float32(float(x))
    around = [np.nextafter(guess, np.float32(-np.inf)), guess, np.nextafter(guess, np.float32(np.inf))]
    return min(around, key=lambda f: (abs(Fraction(float(f)) - x), int(f.view(np.uint32)) & 1))


def check_fma(random):
    # a * b = 2^-24 (1 - 2^-46): beside it, float64 sees a tie of float32 where there is none.
    near_tie = np.float32(2.0**-12 * (1 + 2.0**-23)), np.float32(2.0**-12 * (1 - 2.0**-23))
    for sign, odd, side in itertools.product((1, -1), range(4), (1, -1)):
        a, b, c = near_tie[0] * np.float32(side), near_tie[1], np.float32(sign * (1 + odd * 2.0**-23))
        assert fma(np.array([a]), np.array([b]), np.array([c]))[0] == nearest_float32(
            Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c)))
    for _ in range(3000):
        a, b = (np.float32(random.standard_normal() * 2.0 ** random.integers(-30, 30)) for _ in range(2))
        c = np.float32(-a * b * np.float32(1 + random.integers(-2, 3) * 2.0 ** -random.integers(1, 24)))
        if random.integers(2):
            c = np.float32(random.standard_normal() * 2.0 ** random.integers(-90, 60))
        if random.integers(4) == 0:  # ends below the smallest normal number
            a, c = np.float32(a * np.float32(2.0**-100)), np.float32(random.standard_normal() * 2.0**-140)
            b = np.float32(b * np.float32(2.0**-30))
        got = fma(np.array([a]), np.array([b]), np.array([c]))[0]
        want = nearest_float32(Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c)))
        assert got == want, (a, b, c, got, want)


def spread(scale, scaling, rows, cols):
    """Scales as one for each row and block."""
    blocks = -(-cols // BLOCK)
    if scaling == "tensor":
        return np.broadcast_to(scale.reshape(1, 1), (rows, blocks))
    return scale if scaling == "1x128" else np.repeat(scale, BLOCK, axis=0)[:rows]


def parts_of(a, b):
    """Scale, and operands as float32, of each block of K."""
    (a_codes, a_scale, a_scaling), (b_codes, b_scale, b_scaling) = a, b
    m, k = a_codes.shape
    n = b_codes.shape[0]
    a_spread, b_spread = spread(a_scale, a_scaling, m, k), spread(b_scale, b_scaling, n, k)
    for block in range(-(-k // BLOCK)):
        at = slice(block * BLOCK, (block + 1) * BLOCK)
        scale = a_spread[:, None, block] * b_spread[None, :, block]
        yield scale, a_codes[:, at].astype(np.float32), b_codes[:, at].astype(np.float32)


def reference(a, b, c, out):
    m, n = a[0].shape[0], b[0].shape[0]
    total = np.zeros((m, n), np.float32)
    for scale, a_values, b_values in parts_of(a, b):
        dot = np.zeros((m, n), np.float32)
        for k in range(a_values.shape[1]):
            dot = dot + a_values[:, k, None] * b_values[None, :, k]
        total = fma(scale, dot, total)
    if c is not None:
        total = total + c.astype(np.float32)
    return total.astype(OUT[out])


def integers(codes):
    """FP8 codes as signed significands and the exponents that they count with; NaN and infinity as what their bits are."""
    fraction_bits, bias = (3, 7) if codes.dtype == FP8["e4m3"] else (2, 15)
    bits = codes.view(np.uint8).astype(np.int64)
    biased = (bits & 0x7F) >> fraction_bits
    significand = (bits & ((1 << fraction_bits) - 1)) + (np.minimum(biased, 1) << fraction_bits)
    return np.where(bits & 0x80, -significand, significand), np.maximum(biased, 1) - bias, fraction_bits


def tensor_core_step(c, a_codes, b_codes):
    """c [m, n] + A [m, 32] B [n, 32] transposed, as a Hopper tensor core adds: in int64 but for what is not finite."""
    (a, a_exponent, a_bits), (b, b_exponent, b_bits) = integers(a_codes), integers(b_codes)
    product = a[:, None, :] * b[None, :, :]
    exponent = a_exponent[:, None, :] + b_exponent[None, :, :]
    c_bits = c.view(np.uint32).astype(np.int64)
    c_biased = c_bits >> 23 & 0xFF
    c_product = (c_bits & 0x7FFFFF) + (np.minimum(c_biased, 1) << 23)
    c_exponent = np.maximum(c_biased, 1) - 127
    none = -1000
    highest = np.maximum(np.where(product != 0, exponent, none).max(axis=2), np.where(c_product != 0, c_exponent, none))
    term = np.sign(product) * (np.abs(product) << (13 - a_bits - b_bits) >> np.clip(highest[:, :, None] - exponent, 0, 62))
    c_term = np.where(c.view(np.int32) < 0, -1, 1) * (c_product >> np.clip(highest - c_exponent + 10, 0, 62))
    total = term.sum(axis=2) + c_term
    excess = np.maximum(np.frexp(total.astype(np.float64))[1] - 14, 0)  # bits beyond one and 13 of the fraction
    cut = np.sign(total) * (np.abs(total) >> excess << excess)
    result = np.ldexp(cut.astype(np.float64), np.where(total != 0, highest - 13, 0)).astype(np.float32)
    plain = c + (a_codes.astype(np.float32)[:, None, :] * b_codes.astype(np.float32)[None, :, :]).sum(axis=2, dtype=np.float64)
    return np.where(np.isfinite(plain), result, plain.astype(np.float32)) + np.float32(0)


def hopper(a, b, c, out, split_k):
    (a_codes, *_), (b_codes, *_) = a, b
    m, k, n, blocks = a_codes.shape[0], a_codes.shape[1], b_codes.shape[0], -(-a_codes.shape[1] // BLOCK)
    ranges = max(1, min(split_k, blocks))
    first_blocks = {r * blocks // ranges for r in range(1, ranges)}
    whole = np.zeros((m, -(-k // BLOCK) * BLOCK), a_codes.dtype), np.zeros((n, -(-k // BLOCK) * BLOCK), b_codes.dtype)
    whole[0][:, :k], whole[1][:, :k] = a_codes, b_codes
    done, total = None, np.zeros((m, n), np.float32)
    for block, (scale, _, _) in enumerate(parts_of(a, b)):
        if block in first_blocks:
            done, total = total if done is None else done + total, np.zeros((m, n), np.float32)
        dot = np.zeros((m, n), np.float32)
        for at in range(block * BLOCK, (block + 1) * BLOCK, 32):
            dot = tensor_core_step(dot, whole[0][:, at:at + 32], whole[1][:, at:at + 32])
        total = fma(scale, dot, total)
    if done is not None:
        total = done + total
    if c is not None:
        total = total + c.astype(np.float32)
    return with_one_nan(total.astype(OUT[out]))


def with_one_nan(x):
    bits = x.view({2: np.uint16, 4: np.uint32}[x.itemsize])
    return np.where(np.isnan(x), {2: np.uint16(0x7FFF), 4: np.uint32(0x7FFFFFFF)}[x.itemsize], bits).view(x.dtype)


def size_of(values, dtype, level):
    """What an operand counts for in the bound: the tensor core aligns a subnormal as if it were its format's smallest normal."""
    if level != "hopper":
        return np.abs(values)
    smallest = 2.0**-6 if dtype == FP8["e4m3"] else 2.0**-14
    return np.where(values == 0, 0, np.maximum(np.abs(values), smallest))


def value_and_bound(a, b, c, out, level):
    """In float64, as docs/numerics.md derives it."""
    m, k = a[0].shape
    n = b[0].shape[0]
    value, magnitude = np.zeros((m, n)), np.zeros((m, n))
    for scale, a_values, b_values in parts_of(a, b):
        a64, b64 = a_values.astype(np.float64), b_values.astype(np.float64)
        value += scale.astype(np.float64) * (a64 @ b64.T)
        sizes = size_of(a64, a[0].dtype, level) @ size_of(b64, b[0].dtype, level).T
        magnitude += np.abs(scale.astype(np.float64)) * sizes
    c64 = 0 if c is None else c.astype(np.float64)
    value = value + c64
    blocks, u = -(-k // BLOCK), 2.0**-24
    terms = (0 if level == "hopper" else k) + blocks + 2
    if level == "exact":
        bound = terms * 2.0**-52 * (magnitude + np.abs(c64)) + u * np.abs(value) + 2.0**-150
    else:
        bound = terms * u / (1 - terms * u) * magnitude + blocks * 2.0**-150
        if level == "hopper":
            bound = bound + 132 * 2.0**-13 * magnitude
        if c is not None:
            bound = bound + u * (np.abs(value) + bound) + 2.0**-150
    if out == "bf16":
        bound = bound + 2.0**-8 * (np.abs(value) + bound) + 2.0**-134
    if out == "f16":
        bound = bound + 2.0**-11 * (np.abs(value) + bound) + 2.0**-25
    return value, bound


def quantize(x, kind, scaling, ue8m0=False):
    """Codes and scales of a float array [rows, cols]."""
    x = x.astype(np.float32)
    rows, cols = x.shape
    largest = LARGEST[kind]
    high = {"1x128": 1, "128x128": BLOCK, "tensor": rows}[scaling]
    wide = cols if scaling == "tensor" else BLOCK
    scale = np.empty((-(-rows // high), -(-cols // wide)), np.float32)
    codes = np.empty((rows, cols), FP8[kind])
    for i, j in np.ndindex(scale.shape):
        at = (slice(i * high, (i + 1) * high), slice(j * wide, (j + 1) * wide))
        s = max(np.abs(x[at]).max(), np.float32(1e-4)) / largest
        if ue8m0:
            fraction, exponent = math.frexp(float(s))
            s = np.float32(math.ldexp(1, exponent - (fraction == 0.5)))
        scaled = x[at] * (np.float32(1) / s)
        codes[at] = np.clip(scaled, -largest, largest).astype(FP8[kind])  # ml_dtypes does not saturate
        scale[i, j] = s
    return codes, scale.reshape(1) if scaling == "tensor" else scale


# --- Files and the program


def write_tensors(path, tensors):
    """A .safetensors file: the package's own writer knows no FP8."""
    names = {np.dtype(kind): name for name, kind in NAMES.items()}
    header, data = {}, b""
    for name, array in tensors.items():
        raw = np.ascontiguousarray(array).tobytes()
        header[name] = {"dtype": names[array.dtype], "shape": list(array.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def read_tensors(path):
    return {
        name: np.frombuffer(bytes(view["data"]), NAMES[view["dtype"]]).reshape(view["shape"])
        for name, view in safetensors.deserialize(path.read_bytes())
    }


def same_bits(a, b):
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


class Program:
    def __init__(self, path):
        self.path, self.calls = path, 0

    def __call__(self, *arguments):
        self.calls += 1
        done = subprocess.run([self.path, *map(str, arguments)], capture_output=True, text=True)
        assert done.returncode == 0, f"{' '.join(map(str, done.args))}\nexit {done.returncode}: {done.stderr}"
        return done.stdout


# --- The checks


def check_codes(program, folder):
    """Every FP8 code, alone, has the value that ml_dtypes gives it."""
    for kind, dtype in FP8.items():
        codes = np.arange(256, dtype=np.uint8).view(dtype).reshape(256, 1)
        one = np.ones((3, 1), dtype)
        write_tensors(folder / "codes.safetensors", {"a": codes, "a_scale_inv": np.ones(1, np.float32),
                                                     "b": one, "b_scale_inv": np.ones(1, np.float32)})
        program("gemm", "--a", f"{folder}/codes.safetensors:a", "--b", f"{folder}/codes.safetensors:b",
                "--out", folder / "d.npy", "--level", "reference")
        d = np.load(folder / "d.npy")
        want = np.repeat(codes.astype(np.float32), 3, axis=1) + np.float32(0)
        assert np.array_equal(d, want, equal_nan=True), kind


def check_quantize(program, folder, random):
    shapes = [(1, 1), (1, 128), (3, 129), (130, 300), (257, 64), (128, 256)]
    for kind, scaling, ue8m0, shape in itertools.product(FP8, SCALINGS, (False, True), shapes):
        x = random.standard_normal(shape) * np.exp(random.standard_normal(shape) * 3)
        x[random.random(shape) < 0.05] = -0.0
        x[random.random(shape) < 0.01] *= 2.0**40
        x[random.random(shape) < 0.05] *= 2.0**-60
        x[shape[0] // 2] *= 2.0**-130  # a group so small that 1e-4 stands in for it
        for name, dtype in (("F32", np.float32), ("BF16", ml_dtypes.bfloat16), ("F16", np.float16)):
            y = np.clip(x, -60000, 60000).astype(dtype) if name == "F16" else x.astype(np.float32).astype(dtype)
            if name == "BF16":
                write_tensors(folder / "x.safetensors", {"layer.weight": y})
                source = f"{folder}/x.safetensors:layer.weight"
            elif scaling == "tensor":
                safetensors.numpy.save_file({"layer.weight": y}, folder / "x.safetensors")
                source = f"{folder}/x.safetensors"
            else:
                np.save(folder / "x.npy", y)
                source = folder / "x.npy"
            more = ["--ue8m0"] if ue8m0 else []
            program("quantize", "--in", source, "--out", f"{folder}/q.safetensors:q", "--type", kind, "--scaling", scaling, *more)
            got = read_tensors(folder / "q.safetensors")
            codes, scale = quantize(y, kind, scaling, ue8m0)
            assert same_bits(got["q_scale_inv"], scale), (kind, scaling, ue8m0, shape, name, "scales")
            assert same_bits(got["q"], codes), (kind, scaling, ue8m0, shape, name, "codes")


def check_stack(program, folder, random):
    x = random.standard_normal((3, 130, 200)).astype(np.float32)
    np.save(folder / "x.npy", x)
    for scaling in SCALINGS:
        program("quantize", "--in", folder / "x.npy", "--out", f"{folder}/q.safetensors:q", "--scaling", scaling)
        got = read_tensors(folder / "q.safetensors")
        for g in range(3):
            codes, scale = quantize(x[g], "e4m3", scaling)
            assert same_bits(got["q"][g], codes)
            assert same_bits(got["q_scale_inv"][g].reshape(scale.shape), scale)


def operand(random, shape, kind, scaling):
    """FP8 codes as a checkpoint has them, and scales of any size and sign."""
    codes, scale = quantize(random.standard_normal(shape) * 2.0 ** random.integers(-3, 3, shape), kind, scaling)
    scale = scale * np.exp2(random.integers(-20, 6, scale.shape)).astype(np.float32)
    return codes, scale * random.choice([1, 1, 1, -1], scale.shape).astype(np.float32), scaling


def check_level(program, folder, level, inputs, a, b, c, out, file_type, split_k=0):
    """Runs a level; `reference` and `hopper` must have the bits, every level the bound."""
    target = folder / "d.npy" if file_type == "npy" else f"{folder}/d.safetensors:d"
    split = ["--split-k", split_k] if split_k else []
    program("gemm", *inputs, "--out", target, "--out-type", out, "--level", level, *split)
    got = np.load(target) if file_type == "npy" else read_tensors(folder / "d.safetensors")["d"]
    about = (level, inputs, out, file_type, split)
    if level in ("reference", "hopper"):
        want = reference(a, b, c, out) if level == "reference" else hopper(a, b, c, out, split_k)
        assert same_bits(got, want.astype(np.float32) if file_type == "npy" else want), about
    if not np.all(np.isfinite(got.astype(np.float32))):
        assert level == "hopper", about  # which alone is given such operands, and was compared by its bits
        return
    value, bound = value_and_bound(a, b, c, out, level)
    error = np.abs(got.astype(np.float64) - value)
    assert np.all(error <= bound), (about, "outside the bound")


def check_gemm(program, folder, random):
    shapes = [(17, 130, 300), (130, 17, 128), (2, 3, 513), (129, 129, 64), (5, 200, 1), (33, 257, 257)]
    turn = itertools.count()
    for a_kind, b_kind, a_scaling, b_scaling in itertools.product(FP8, FP8, SCALINGS, SCALINGS):
        t = next(turn)
        m, n, k = shapes[t % len(shapes)]
        out = list(OUT)[t % 3]
        a, b = operand(random, (m, k), a_kind, a_scaling), operand(random, (n, k), b_kind, b_scaling)
        c = random.standard_normal((m, n)).astype(list(OUT.values())[t // 3 % 3]) if t % 2 else None
        write_tensors(folder / "a.safetensors", {"x": a[0], "x_scale_inv": a[1]})
        write_tensors(folder / "w.safetensors", {"other": np.zeros((2, 2), np.float32), "mlp.weight": b[0],
                                                 "mlp.weight_scale_inv": b[1], "mlp.c": np.zeros(0, np.float32) if c is None else c})
        inputs = ["--a", f"{folder}/a.safetensors:x", "--b", f"{folder}/w.safetensors:mlp.weight"]
        if m < 129 or n < 129:  # where the scales' shape alone does not tell
            inputs += ["--scaling-a", a_scaling, "--scaling-b", b_scaling]
        if c is not None:
            inputs += ["--c", f"{folder}/w.safetensors:mlp.c"]
        for level in ("reference", "exact", "blas", "hopper"):
            check_level(program, folder, level, inputs, a, b, c, out, "npy" if level == "exact" and t % 4 == 0 else "safetensors")


def hurting_codes(random, shape, kind, likeness):
    """FP8 codes at which a tensor core's sum shows how it is made."""
    codes = random.integers(0, 256, shape).astype(np.uint8)
    largest = 0x7E if kind == "e4m3" else 0x7B
    codes = np.where((codes & 0x7F) > largest, codes & 0x80, codes)  # finite
    if likeness == "zeros":
        codes = np.where(random.random(shape) < 0.8, codes & 0x80, codes)
    if likeness == "subnormal":
        codes = np.where(random.random(shape) < 0.9, codes & (0x87 if kind == "e4m3" else 0x83), codes)
    if likeness == "unequal":
        codes = (codes & 0x80) | np.where(random.random(shape) < 0.1, largest, codes & 1)
    if likeness == "not finite":
        codes = np.where(random.random(shape) < 0.001, random.integers(largest + 1, 0x80, shape) | (codes & 0x80), codes)
    return codes.astype(np.uint8).view(FP8[kind])


def check_hopper(program, folder, random):
    """The level hopper on codes that hurt, K split into any number of ranges."""
    shapes = [(33, 70, 128), (5, 130, 640), (129, 3, 897), (1, 1, 33), (18, 31, 1300), (40, 17, 31)]
    turn = itertools.count()
    likenesses = ("any", "zeros", "subnormal", "unequal", "not finite")
    for likeness, a_kind, b_kind, a_scaling, b_scaling in itertools.product(likenesses, FP8, FP8, SCALINGS, SCALINGS):
        t = next(turn)
        m, n, k = shapes[t % len(shapes)]
        a = (hurting_codes(random, (m, k), a_kind, likeness), *operand(random, (m, k), a_kind, a_scaling)[1:])
        b = (hurting_codes(random, (n, k), b_kind, likeness), *operand(random, (n, k), b_kind, b_scaling)[1:])
        write_tensors(folder / "ab.safetensors", {"a": a[0], "a_scale_inv": a[1], "b": b[0], "b_scale_inv": b[1]})
        inputs = ["--a", f"{folder}/ab.safetensors:a", "--b", f"{folder}/ab.safetensors:b", "--scaling-a", a_scaling,
                  "--scaling-b", b_scaling]
        split_k = (0, 1, 2, 3, 5, 99)[t // 6 % 6]
        check_level(program, folder, "hopper", inputs, a, b, None, ("f32", "bf16")[t % 2], "safetensors", split_k)


def check_gemm_of_floats(program, folder, random):
    """Operands that are quantised on load: the quantiser and the product in one."""
    m, n, k = 40, 150, 290
    for a_kind, b_kind, a_scaling, b_scaling in itertools.product(FP8, FP8, SCALINGS, SCALINGS):
        x = random.standard_normal((m, k)).astype(np.float32)
        w = (random.standard_normal((n, k)) * 0.02).astype(np.float16)
        np.save(folder / "x.npy", x)
        np.save(folder / "w.npy", np.asfortranarray(w) if a_scaling == b_scaling else w)
        inputs = ["--a", folder / "x.npy", "--b", folder / "w.npy", "--type-a", a_kind, "--type-b", b_kind,
                  "--scaling-a", a_scaling, "--scaling-b", b_scaling]
        a, b = (*quantize(x, a_kind, a_scaling), a_scaling), (*quantize(w, b_kind, b_scaling), b_scaling)
        check_level(program, folder, "reference", inputs, a, b, None, "f32", "npy")
        check_level(program, folder, "reference", inputs, a, b, None, "bf16", "npy")
        check_level(program, folder, "blas", inputs, a, b, None, "bf16", "safetensors")


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    np.seterr(over="ignore", invalid="ignore", under="ignore")
    random = np.random.default_rng(20261122)
    program = Program(sys.argv[1])
    check_fma(random)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        check_codes(program, folder)
        check_quantize(program, folder, random)
        check_stack(program, folder, random)
        check_gemm(program, folder, random)
        check_hopper(program, folder, random)
        check_gemm_of_floats(program, folder, random)
    print(f"{program.calls} runs of the program agree with numpy {np.__version__} and ml_dtypes {ml_dtypes.__version__}")


main()
