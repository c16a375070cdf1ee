"""Times the level `full` beside DeepGEMM, in one process, in turns, on the same operands; and beside cuBLASLt, with one scale for a matrix.

    python3 deep_gemm.py --library build/release/libfinegemm.so --shapes 64x4096x7168,4096x4096x7168 [--profiler] [--json]
    python3 deep_gemm.py --asserts

Needs a Python that has torch and deep_gemm, and a Hopper GPU.

--library    finegemm's shared library
--shapes     M x N x K, commas between shapes
--repeats    how often each is timed cold, that is, after 8 GB were written; the median counts. 15, with --profiler 12
--profiler   a cold time is what torch.profiler (CUPTI) saw of the call's kernels on the GPU, from the begin of the first to the end of
             the last, as DeepGEMM's own test takes it; else it is that between CUDA events around the call. Settled times are by events
             in both cases, the limit the same, with its 2 us for a launch
--settled    milliseconds for which each is called back to back, from graphs; 0: it is not
--json       instead of a table JSON, of the same kind as what bench_gpu prints; with --profiler each row names the kernels of its call
--asserts    print C that compiles only if the structs below are laid out as finegemm's headers have them, and end; it needs nothing

`cublaslt-tensor` multiplies the same FP8 numbers by torch._scaled_mm(), which is cuBLASLt by the first algorithm that it offers: all of A
and all of B have one scale, and sums stay in the tensor core (fast accumulation). That is less work, and less precise.
"""

import argparse
import contextlib
import ctypes
import json
import math
import os
import statistics
import sys
from ctypes import POINTER, Structure, byref, c_char, c_char_p, c_int, c_int64, c_uint, c_void_p

CHECKED_ROWS = 16
SETTLED_ROUNDS = 3
CALLS_OF_A_GRAPH = 20
COLD_BYTES = 8_000_000_000  # written before a cold launch: the L2 has nothing of the operands, the chip cools, and the host gets ahead
CLASSES = ((1, 128), (129, 1024), (1025, 0))  # of m, as in summary.c; 0: no end
MOST_RELATIVE = {"deep_gemm": 2.0**-6, "cublaslt-tensor": 2.0**-4}  # how far a peer's result may be off, as Euclidean norms

# --- finegemm's structs and what of its enumerators is used

CONSTANTS = {"FG_OK": 0, "FG_UNSUPPORTED": 10, "FG_CPU": 0, "FG_CUDA": 1, "FG_HOPPER": 4, "FG_FULL": 12, "FG_ROWS_CONTIGUOUS": 1}
ORDERS = {"FG_A_BY_B": 1, "FG_B_BY_A": 2}


class fg_operand(Structure):
    _fields_ = [("data", c_void_p), ("scale", c_void_p), ("ld", c_int64), ("stride", c_int64), ("scale_ld", c_int64),
                ("scale_stride", c_int64), ("type", c_int), ("scaling", c_int), ("scale_layout", c_int)]


class fg_result(Structure):
    _fields_ = fg_operand._fields_


class fg_plan(Structure):
    _fields_ = [("level", c_int), ("order", c_int), ("block_m", c_int), ("block_n", c_int), ("stages", c_int), ("threads", c_int),
                ("blocks", c_int), ("cluster", c_int), ("split_k", c_int), ("shared_bytes", c_int), ("tiles", c_int64)]


class fg_problem(Structure):
    _fields_ = [("kind", c_int), ("m", c_int64), ("n", c_int64), ("k", c_int64), ("groups", c_int64), ("a", fg_operand),
                ("b", fg_operand), ("c", fg_operand), ("bias", fg_operand), ("d", fg_result), ("group_by", c_int),
                ("group_type", c_int), ("group_values", c_void_p), ("group_align", c_int64), ("expected_m", c_int64), ("level", c_int),
                ("stream", c_void_p), ("sm_limit", c_int), ("split_k", c_int), ("flags", c_uint), ("plan", POINTER(fg_plan))]


class fg_context_options(Structure):
    _fields_ = [("device", c_int), ("ordinal", c_int), ("threads", c_int)]


class fg_gpu(Structure):
    _fields_ = [("name", c_char * 64), ("arch", c_char * 16), ("sms", c_int), ("shared_bytes", c_int)]


STRUCTS = (fg_operand, fg_result, fg_plan, fg_problem, fg_context_options, fg_gpu)


def print_asserts():
    def assert_that(what):
        print(f'_Static_assert({what}, "{what}");')

    print("#include <finegemm.h>\n#include <finegemm_kernels.h>")
    for struct in STRUCTS:
        name = struct.__name__
        assert_that(f"sizeof({name}) == {ctypes.sizeof(struct)}")
        for field, _ in struct._fields_:
            here = getattr(struct, field)
            assert_that(f"offsetof({name}, {field}) == {here.offset}")
            assert_that(f"sizeof((({name} *)0)->{field}) == {here.size}")
    for name, value in {**CONSTANTS, **ORDERS}.items():
        assert_that(f"{name} == {value}")


def fail(sentence, code=1):
    print(f"deep_gemm.py: {sentence}", file=sys.stderr)
    sys.exit(code)


class Finegemm:
    """The library, with a context for the CPU and one for the CUDA device that torch uses."""

    def __init__(self, path, ordinal):
        try:
            self.library = ctypes.CDLL(path)
        except OSError as error:
            fail(f"the library cannot be opened: {error}")
        library = self.library
        library.fg_version.restype = library.fg_message.restype = c_char_p
        library.fg_context_create.argtypes = [POINTER(c_void_p), POINTER(fg_context_options)]
        library.fg_context_gpu.argtypes = [c_void_p, POINTER(fg_gpu)]
        library.fg_context_plan.argtypes = [c_void_p, POINTER(fg_problem), POINTER(fg_plan)]
        library.fg_prepare.argtypes = library.fg_gemm.argtypes = [c_void_p, POINTER(fg_problem)]
        self.cpu, self.cuda, self.gpu = c_void_p(), c_void_p(), fg_gpu()
        self.require(library.fg_context_create(byref(self.cpu), byref(fg_context_options(device=CONSTANTS["FG_CPU"]))))
        self.require(library.fg_context_create(byref(self.cuda), byref(fg_context_options(device=CONSTANTS["FG_CUDA"], ordinal=ordinal))))
        self.require(library.fg_context_gpu(self.cuda, byref(self.gpu)))

    def message(self):
        return self.library.fg_message().decode()

    def require(self, status):
        if status != CONSTANTS["FG_OK"]:
            fail(self.message())


# --- Operands


def up4(x):
    return (x + 3) // 4 * 4


def quantised(torch, x, rows_of_a_scale):
    """x [rows, k] in e4m3, and its scales [ceil(rows / rows_of_a_scale), ceil(k / 128)]."""
    rows, k = x.shape
    padded = torch.nn.functional.pad(x, (0, -k % 128, 0, -rows % rows_of_a_scale))
    blocks = padded.view(padded.shape[0] // rows_of_a_scale, rows_of_a_scale, padded.shape[1] // 128, 128)
    scales = blocks.abs().amax(dim=(1, 3)).clamp(min=1e-4) / 448.0
    codes = (blocks / scales[:, None, :, None]).view(padded.shape)[:rows, :k].to(torch.float8_e4m3fn)
    return codes.contiguous(), scales.contiguous()


def make_operands(torch, m, n, k):
    """A [m, k] with scales of which each column of m is contiguous and begins at 16 bytes, as both libraries want them; B [n, k]."""
    a, row_major = quantised(torch, torch.randn(m, k, device="cuda"), 1)
    a_scale = torch.zeros(row_major.shape[1], up4(m), device="cuda").t()[:m]
    a_scale.copy_(row_major)
    b, b_scale = quantised(torch, torch.randn(n, k, device="cuda"), 128)
    return a, a_scale, b, b_scale


def problem_of(operands, d, level):
    a, a_scale, b, b_scale = operands
    problem = fg_problem(m=a.shape[0], n=b.shape[0], k=a.shape[1], level=level)
    problem.a = fg_operand(data=a.data_ptr(), scale=a_scale.data_ptr(), scale_layout=CONSTANTS["FG_ROWS_CONTIGUOUS"],
                           scale_ld=a_scale.stride(1))
    problem.b = fg_operand(data=b.data_ptr(), scale=b_scale.data_ptr(), scale_ld=b_scale.stride(0))
    problem.d = fg_result(data=d.data_ptr())
    return problem


# --- What is compared. A call puts the product on torch's current stream.


def full_call(torch, finegemm, operands, d, row):
    """The level's call, its plan noted in `row`; or None, and row["why_not"]."""
    problem, plan = problem_of(operands, d, CONSTANTS["FG_FULL"]), fg_plan()
    status = finegemm.library.fg_context_plan(finegemm.cuda, byref(problem), byref(plan))
    if status == CONSTANTS["FG_OK"]:
        status = finegemm.library.fg_prepare(finegemm.cuda, byref(problem))
    if status == CONSTANTS["FG_UNSUPPORTED"]:
        row["why_not"] = finegemm.message()
        return None
    finegemm.require(status)
    row.update({name: getattr(plan, name) for name in ("block_m", "block_n", "stages", "threads", "blocks", "cluster", "split_k",
                                                       "shared_bytes", "tiles")})
    row["order"] = {ORDERS["FG_A_BY_B"]: "A by B", ORDERS["FG_B_BY_A"]: "B by A"}.get(plan.order, "")
    gemm, context, pointer = finegemm.library.fg_gemm, finegemm.cuda, byref(problem)

    def call():
        problem.stream = torch.cuda.current_stream().cuda_stream or None
        finegemm.require(gemm(context, pointer))

    return call


def deep_gemm_call(deep_gemm, operands, d):
    """By the name that the function has in this version of DeepGEMM. It takes the scales as they are: it launches nothing but its GEMM."""
    a, a_scale, b, b_scale = operands
    if hasattr(deep_gemm, "fp8_gemm_nt"):
        return lambda: deep_gemm.fp8_gemm_nt((a, a_scale), (b, b_scale), d, disable_ue8m0_cast=True)
    if hasattr(deep_gemm, "gemm_fp8_fp8_bf16_nt"):
        return lambda: deep_gemm.gemm_fp8_fp8_bf16_nt((a, a_scale), (b, b_scale), d)
    return fail("this deep_gemm has neither fp8_gemm_nt() nor gemm_fp8_fp8_bf16_nt()")


def cublaslt_tensor_call(torch, operands, d):
    (a, _, b, _), one = operands, torch.ones((), device="cuda")
    column_major = b.t()
    return lambda: torch._scaled_mm(a, column_major, one, one, out_dtype=torch.bfloat16, use_fast_accum=True, out=d)


# --- Checking


def hopper_rows(torch, finegemm, operands, rows, split_k):
    """What the CPU's level `hopper` makes of these rows of A: [len(rows), n] in BF16."""
    a, a_scale, b, b_scale = operands
    codes = a.view(torch.uint8)[rows].cpu().contiguous()
    scales = torch.zeros(a_scale.shape[1], up4(len(rows))).t()[: len(rows)]
    scales.copy_(a_scale[rows].cpu())
    kept = codes, scales, b.view(torch.uint8).cpu(), b_scale.cpu()
    d = torch.empty(len(rows), b.shape[0], dtype=torch.bfloat16)
    problem = problem_of(kept, d, CONSTANTS["FG_HOPPER"])
    problem.split_k = split_k
    finegemm.require(finegemm.library.fg_gemm(finegemm.cpu, byref(problem)))
    return d


def rows_of(torch, call, d, rows):
    d.fill_(math.nan)
    call()
    torch.cuda.synchronize()
    return d[rows].cpu()


def check_peer(torch, peer, rows, expected):
    """Sets why_not of the peer's row if its result is wrong or it makes none. The peer is (row, call, d)."""
    row, call, d = peer
    try:
        made = rows_of(torch, call, d, rows).double()
    except (AssertionError, RuntimeError) as error:  # which is how it refuses a shape
        row["why_not"] = (str(error).strip() or type(error).__name__).splitlines()[0]
        return
    relative = float((made - expected).norm() / expected.norm())
    row["relative_error"], row["checked"] = relative, made.numel()
    if not relative <= MOST_RELATIVE[row["name"]]:
        row["why_not"] = f"its result is wrong: off by {relative:.2g} of the product"


def check(torch, finegemm, operands, full, deep_gemm, cublaslt, rows):
    """Sets why_not of a row whose result is wrong. Each of full, deep_gemm and cublaslt is (row, call, d)."""
    a, _, b, _ = operands
    hopper = {}

    def expected(split_k):
        if split_k not in hopper:
            hopper[split_k] = hopper_rows(torch, finegemm, operands, rows, split_k)
        return hopper[split_k]

    row, call, d = full
    if call:
        same = rows_of(torch, call, d, rows).view(torch.int16) == expected(row["split_k"]).view(torch.int16)
        if not same.all():
            row["why_not"] = f"its result is wrong: {int((~same).sum())} of {same.numel()} elements have other bits than hopper"
    check_peer(torch, deep_gemm, rows, expected(1).double())
    check_peer(torch, cublaslt, rows, (a[rows].float() @ b.float().t()).double().cpu())


# --- Timing


def times(us):
    return {"median_us": statistics.median(us), "min_us": min(us), "max_us": max(us)}


class Clock:
    def __init__(self, torch):
        self.torch = torch
        self.begin, self.end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        self.flush = torch.empty(COLD_BYTES // 4, dtype=torch.int32, device="cuda")

    def us(self, call):
        self.begin.record()
        call()
        self.end.record()
        self.end.synchronize()
        return self.begin.elapsed_time(self.end) * 1e3

    def cold_us(self, call):
        self.flush.zero_()
        return self.us(call)

    def profiled(self, calls, repeats):
        """What the GPU does for each of the calls, in turns and cold: lists of lists of (name, begin, end), the times in us."""
        profiler = self.torch.profiler
        with profiler.profile(activities=[profiler.ProfilerActivity.CUDA]) as profile:
            for _ in range(1 + repeats):  # the first round is not counted
                for call in calls:
                    self.flush.zero_()
                    call()
            self.torch.cuda.synchronize()
        seen = [(event.name, event.time_range.start, event.time_range.end) for event in profile.events()
                if event.device_type == self.torch.autograd.DeviceType.CUDA]
        seen.sort(key=lambda kernel: kernel[1])
        kernels = []
        for name, begin, end in seen:
            if name == seen[0][0] and end - begin > (seen[0][2] - seen[0][1]) / 2:  # a flush, in one kernel or several
                if not kernels or kernels[-1]:
                    kernels.append([])  # what follows is of the next call
            else:
                kernels[-1].append((name, begin, end))
        if len(kernels) != (1 + repeats) * len(calls) or not all(kernels):
            names = sorted({name for name, _, _ in seen})
            fail(f"torch.profiler did not see the kernels of every call: {len(kernels)} of {(1 + repeats) * len(calls)}, {names}")
        return [kernels[len(calls) + i :: len(calls)] for i in range(len(calls))]

    def graph_of(self, call):
        """Several calls, so that a settled time is the GPU's, not the host's."""
        graph = self.torch.cuda.CUDAGraph()
        with self.torch.cuda.graph(graph):
            for _ in range(CALLS_OF_A_GRAPH):
                call()
        return graph

    def settled_us(self, graph, cold_us, settled_ms):
        replays = 1 + int(settled_ms * 1e3 / max(cold_us * CALLS_OF_A_GRAPH, 1))
        return self.us(lambda: [graph.replay() for _ in range(replays)]) / (replays * CALLS_OF_A_GRAPH)


def cold_times(clock, contenders, repeats, by_profiler):
    if by_profiler and contenders:
        profiled = clock.profiled([call for _, call in contenders], repeats)
        for kernels, (row, _) in zip(profiled, contenders):
            row["kernels"] = [name for name, _, _ in kernels[0]]
        return [[call[-1][2] - call[0][1] for call in kernels] for kernels in profiled]
    cold = [[] for _ in contenders]
    for _ in range(repeats):
        for us, (_, call) in zip(cold, contenders):
            us.append(clock.cold_us(call))
    return cold


def measure(clock, contenders, repeats, by_profiler, settled_ms, flops, limit_us):
    """Adds times to the rows; each contender is (row, call)."""
    for us, (row, _) in zip(cold_times(clock, contenders, repeats, by_profiler), contenders):
        row["cold"] = times(us)
        row["gflops"] = flops / row["cold"]["median_us"] * 1e-3
        row["share"] = row["share_of_limit"] = limit_us / row["cold"]["median_us"]
    if settled_ms == 0:
        return
    graphs = [clock.graph_of(call) for _, call in contenders]
    settled = [[] for _ in contenders]
    for _ in range(SETTLED_ROUNDS):
        for us, graph, (row, _) in zip(settled, graphs, contenders):
            us.append(clock.settled_us(graph, row["cold"]["median_us"], settled_ms))
    for us, (row, _) in zip(settled, contenders):
        row["settled"] = times(us)
        row["settled_gflops"] = flops / row["settled"]["median_us"] * 1e-3


# --- Reporting


def machine_of(finegemm, ordinal):
    """What bench_gpu says of the machine, and the limits that it derives."""
    driver = ctypes.CDLL("libcuda.so.1")
    device, version = c_int(), c_int()
    driver.cuDeviceGet(byref(device), ordinal)
    driver.cuDriverGetVersion(byref(version))

    def attribute(number):
        value = c_int()
        driver.cuDeviceGetAttribute(byref(value), number, device)
        return value.value

    clock_khz, memory_clock_khz, memory_bits, l2_bytes = (attribute(number) for number in (13, 36, 37, 38))
    sms, bandwidth = finegemm.gpu.sms, 2.0 * memory_clock_khz * 1e3 * memory_bits / 8
    return {"version": finegemm.library.fg_version().decode(), "commit": os.environ.get("FG_COMMIT", "?"),
            "gpu": finegemm.gpu.name.decode(), "arch": finegemm.gpu.arch.decode(), "sms": sms, "clock_khz": clock_khz,
            "memory_clock_khz": memory_clock_khz, "memory_bits": memory_bits, "l2_bytes": l2_bytes, "driver": version.value,
            "memory_bytes_per_s": bandwidth, "tensor_flops": 1.7e15 / 132 * sms,
            "read_bytes_per_s": 3.1e12 / 3.352e12 * bandwidth, "launch_us": 2}


def floors_of(machine, m, n, k):
    blocks = (k + 127) // 128
    flops, read = 2.0 * m * n * k, (m + n) * k + 4.0 * blocks * (m + (n + 127) // 128) + 2.0 * m * n
    limit_us = max(flops / machine["tensor_flops"], read / machine["read_bytes_per_s"]) * 1e6 + machine["launch_us"]
    return {"flops": flops, "bytes": read, "limit_us": limit_us}


def geometric_mean(values):
    return math.exp(statistics.fmean(math.log(value) for value in values))


def summarise(results):
    """As bench_gpu's summary, but for steps in m."""
    classes = []
    for first, last in CLASSES:
        shares, ratios = [], {name: ([], []) for name in MOST_RELATIVE}
        for result in results:
            level = result["rows"][0]
            if "cold" not in level or result["m"] < first or (last and result["m"] > last):
                continue
            where = {key: result[key] for key in ("m", "n", "k")}
            shares.append({"value": level["share"], **where})
            for peer in result["peers"]:
                cold, settled = ratios[peer["name"]]
                if "cold" in peer:
                    cold.append({"value": peer["cold"]["median_us"] / level["cold"]["median_us"], **where})
                if "settled" in peer:
                    settled.append(peer["settled"]["median_us"] / level["settled"]["median_us"])
        if not shares:
            continue
        def least(values):
            return min(values, key=lambda value: value["value"])

        entry = {"level": "full", "m_from": first, "m_to": last, "shapes": len(shares),
                 "share_of_limit": statistics.fmean(share["value"] for share in shares), "least_share": least(shares), "peers": []}
        for name, (cold, settled) in ratios.items():
            if cold:
                peer = {"name": name, "shapes": len(cold), "cold": geometric_mean(ratio["value"] for ratio in cold), "least": least(cold)}
                if settled:
                    peer["settled"] = geometric_mean(settled)
                entry["peers"].append(peer)
        classes.append(entry)
    return {"classes": classes} if classes else {}


def print_row(result, row):
    print(f"{result['m']:6} x {result['n']:6} x {result['k']:6}  {row['name']:15}", end="")
    if "why_not" in row:
        print(f" {row['why_not']}")
        return
    cold = row["cold"]
    print(f" {cold['median_us']:10.1f} {cold['min_us']:10.1f} {cold['max_us']:10.1f} {row['gflops'] * 1e-3:8.1f} {row['share']:6.3f}", end="")
    if "settled" in row:
        print(f" {row['settled']['median_us']:10.1f} {row['settled_gflops'] * 1e-3:8.1f}", end="")
    if "split_k" in row:
        print(f"  {row['block_m']} x {row['block_n']} {row['order']}, cluster {row['cluster']}, {row['split_k']} of K", end="")
    print(flush=True)


def print_summary(summary):
    print()
    for entry in summary.get("classes", []):
        to = f" to {entry['m_to']}" if entry["m_to"] else ""
        print(f"m from {entry['m_from']}{to}: {entry['shapes']} shapes, share of the limit {entry['share_of_limit']:.3f} in the mean")
        for peer in entry["peers"]:
            least = peer["least"]
            settled = f", {peer['settled']:.3f} settled" if "settled" in peer else ""
            print(f"  times the speed of {peer['name']}: {peer['cold']:.3f} cold{settled}, least {least['value']:.3f} at "
                  f"{least['m']} x {least['n']} x {least['k']}")


# --- The command line


def parse_shape(text):
    sizes = text.split("x")
    if len(sizes) != 3 or not all(size.isascii() and size.isdigit() and 1 <= int(size) < 2**31 for size in sizes):
        fail("--shapes takes M x N x K as 512x7168x2048, commas between shapes; bench_gpu --list writes sets out", 2)
    return tuple(int(size) for size in sizes)


def parse_arguments():
    parser = argparse.ArgumentParser(prog="deep_gemm.py", description=__doc__.splitlines()[0])
    parser.add_argument("--library", default="libfinegemm.so", help="finegemm's shared library")
    parser.add_argument("--shapes", default="64x4096x7168,4096x4096x7168", metavar="MxNxK,...")
    parser.add_argument("--repeats", type=int, help="how often each is timed cold (15, with --profiler 12)")
    parser.add_argument("--profiler", action="store_true", help="cold times by torch.profiler, not by CUDA events")
    parser.add_argument("--settled", type=int, default=400, metavar="MS", help="milliseconds back to back; 0: not (400)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--asserts", action="store_true", help="print C that checks the layout of the structs, and end")
    arguments = parser.parse_args()
    if arguments.repeats is None:
        arguments.repeats = 12 if arguments.profiler else 15
    if arguments.repeats < 1 or arguments.settled < 0:
        fail("--repeats takes a number from 1, --settled one from 0", 2)
    arguments.shapes = [parse_shape(text) for text in arguments.shapes.split(",")]
    return arguments


def import_peers():
    here = os.path.dirname(os.path.realpath(__file__))
    sys.path = [path for path in sys.path if os.path.realpath(path or ".") != here]  # else deep_gemm would be this file
    try:
        import torch
        with contextlib.redirect_stdout(sys.stderr):  # it may say there what it lacks
            import deep_gemm
    except ImportError as error:
        fail(f"this Python lacks what it compares with ({error}); run it with one that has torch and deep_gemm")
    if not torch.cuda.is_available() or torch.cuda.get_device_capability() != (9, 0):
        fail("torch has no Hopper GPU here")
    return torch, deep_gemm


def compare(torch, deep_gemm, finegemm, clock, machine, shape, arguments):
    m, n, k = shape
    result = {"m": m, "n": n, "k": k, **floors_of(machine, m, n, k)}
    operands = make_operands(torch, m, n, k)
    level, *peers = {"name": "full", "own_plan": True}, *({"name": name} for name in MOST_RELATIVE)
    results = [torch.empty(m, n, dtype=torch.bfloat16, device="cuda") for _ in (level, *peers)]
    calls = [full_call(torch, finegemm, operands, results[0], level), deep_gemm_call(deep_gemm, operands, results[1]),
             cublaslt_tensor_call(torch, operands, results[2])]
    rows = list(range(0, m, -(-m // CHECKED_ROWS)))
    check(torch, finegemm, operands, *zip((level, *peers), calls, results), rows)
    contenders = [(row, call) for row, call in zip((level, *peers), calls) if "why_not" not in row]
    measure(clock, contenders, arguments.repeats, arguments.profiler, arguments.settled, result["flops"], result["limit_us"])
    return {**result, "rows": [level], "peers": peers}


def main():
    arguments = parse_arguments()
    if arguments.asserts:
        print_asserts()
        return
    torch, deep_gemm = import_peers()
    torch.manual_seed(1)
    ordinal = torch.cuda.current_device()
    torch.zeros(1, device="cuda")  # which makes the primary context that finegemm shares
    finegemm = Finegemm(arguments.library, ordinal)
    clock, machine = Clock(torch), machine_of(finegemm, ordinal)
    machine.update(torch=torch.__version__, deep_gemm=getattr(deep_gemm, "__version__", "?"), repeats=arguments.repeats,
                   timer="profiler" if arguments.profiler else "events", settled_ms=arguments.settled)
    if not arguments.json:
        print(f"finegemm {machine['version']}, DeepGEMM {machine['deep_gemm']}, torch {machine['torch']}, {machine['gpu']}\n")
        print(f"{'m':>6}   {'n':>6}   {'k':>6}  {'':15} {'us':>10} {'min':>10} {'max':>10} {'TFLOPS':>8} {'share':>6} {'settled us':>10} {'TFLOPS':>8}")
    results = []
    for shape in arguments.shapes:
        results.append(compare(torch, deep_gemm, finegemm, clock, machine, shape, arguments))
        if not arguments.json:
            for row in results[-1]["rows"] + results[-1]["peers"]:
                print_row(results[-1], row)
    summary = summarise(results)
    if arguments.json:
        print(json.dumps({**machine, "summary": summary, "levels": results}, indent=2))
    else:
        print_summary(summary)
    if any("its result is wrong" in result["rows"][0].get("why_not", "") for result in results):
        fail("the level full is wrong: see its rows")


if __name__ == "__main__":
    main()
