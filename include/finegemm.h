/**
 * @file finegemm.h
 * @brief Multiplies FP8 matrices with fine-grained scales: D = C + A Bᵀ.
 *
 * A [m, k] and B [n, k] are FP8, K contiguous in both. A scale belongs to each 1x128 of A and each 128x128 of B (other
 * scalings below). With b over the blocks of 128 along K (the last may be short) and RN rounding to nearest even in FP32:
 *
 *     scale(i, j, b) = RN(a.scale(i, b) * b.scale(j, b))
 *     sum(i, j)      = fma(scale(i, j, b), dot(i, j, b), sum(i, j))        b ascending, from +0
 *     D(i, j)        = round(RN(RN(sum(i, j) + C(i, j)) + bias(j)))        C and bias only where given
 *
 * `dot` is the level's own inner sum over one block; docs/numerics.md defines the bits of each. An example, complete:
 *
 * @snippet example_header.c example
 *
 * Rules for every function. It returns a ::fg_status and nothing else happens on failure: no output is touched, nothing is
 * printed; fg_message() then holds one sentence that names the argument, its value and the rule. In structs, zero is the
 * default: use designated initialisers. Pointers to no elements may be NULL. Any number of threads may use one context,
 * but for fg_context_destroy(). A forked child may call the library if its parent never used more than one thread in it (OpenMP's
 * threads do not survive a fork), or after exec. The library never prints, exits, traps or starts a process.
 */
#ifndef FINEGEMM_H
#define FINEGEMM_H

#include <stddef.h>
#include <stdint.h>

#define FG_API __attribute__((visibility("default")))

#define FG_VERSION_MAJOR 0
#define FG_VERSION_MINOR 1
#define FG_VERSION_PATCH 0

#ifdef __cplusplus
extern "C" {
#endif

/** @name Status
 * @{ */

/** What a call came to. Values are never reused. */
typedef enum fg_status {
  FG_OK = 0,
  FG_NULL_POINTER = 1,   /**< a pointer that is needed is NULL */
  FG_BAD_SIZE = 2,       /**< a size is negative, or the bytes of an array exceed what can be addressed */
  FG_BAD_ENUM = 3,       /**< an enumerator or flag that does not exist, or that this argument does not take */
  FG_BAD_STRIDE = 4,     /**< rows, columns or matrices of one array would overlap */
  FG_MISALIGNED = 5,     /**< a pointer is not a multiple of its element's size */
  FG_OVERLAP = 6,        /**< an output shares bytes with another argument, or its matrices lie between the other's */
  FG_BAD_SCALE = 7,      /**< a scale that is used is NaN or infinite (seen in host memory only) */
  FG_BAD_GROUPS = 8,     /**< groups out of order or out of range (seen in host memory only) */
  FG_BAD_VALUE = 9,      /**< a value to be quantised is NaN or infinite (seen in host memory only) */
  FG_UNSUPPORTED = 10,   /**< legal, but not by this level, context or version; never a wrong result instead */
  FG_OUT_OF_MEMORY = 11, /**< the host has no memory for the work space, or the device none */
  FG_DRIVER_ERROR = 12,  /**< the CUDA driver refused something; fg_message() has its words */
  FG_COMPILE_ERROR = 13, /**< a kernel does not compile; fg_message() has the compiler's first error */
  FG_NOT_PREPARED = 14,  /**< the stream is being captured and the kernel is not loaded: call fg_prepare() before */
  FG_BAD_MEMORY = 15,    /**< memory that the context's device cannot reach, as a host pointer given to a CUDA context */
  FG_BAD_PLAN = 16       /**< a plan that the problem, the kernel or the device does not admit */
} fg_status;

/** The status's name, as "FG_BAD_SIZE"; "unknown status" for a value that is none. Never NULL, static. */
FG_API const char *fg_status_name(fg_status status);

/** The sentence of this thread's last failed call, "" if none failed. Valid until this thread's next call: one that succeeds may have
    met with a failure on its way. */
FG_API const char *fg_message(void);

/** The library's version, as "0.1.0". Static. */
FG_API const char *fg_version(void);

/** @}
 * @name Operands
 * @{ */

/** Element types. FG_DEFAULT_TYPE: E4M3 for A, B and quantised output, BF16 for D, D's type for C, FP32 elsewhere. */
typedef enum fg_type {
  FG_DEFAULT_TYPE = 0,
  FG_E4M3 = 1, /**< e4m3fn: no infinity, largest 448, NaN 0x7F and 0xFF */
  FG_E5M2 = 2, /**< largest 57344, infinity 0x7C */
  FG_BF16 = 3,
  FG_FP16 = 4,
  FG_FP32 = 5
} fg_type;

/** Which elements share a scale. FG_DEFAULT_SCALING: 128x128 for B, 1x128 elsewhere. Any may meet any. */
typedef enum fg_scaling {
  FG_DEFAULT_SCALING = 0,
  FG_1X128 = 1,   /**< [rows, kb]: one for each row and 128 of K, kb = ceil(k / 128) */
  FG_128X128 = 2, /**< [ceil(rows / 128), kb]: one for each 128 rows and 128 of K */
  FG_TENSOR = 3   /**< [1]: one for the whole matrix */
} fg_scaling;

/** Which index of the matrix of scales is contiguous. */
typedef enum fg_scale_layout {
  FG_BLOCKS_CONTIGUOUS = 0, /**< row-major: scale_ld floats from row to row, at least kb (the default) */
  FG_ROWS_CONTIGUOUS = 1    /**< column-major, as the GPU likes it: scale_ld floats from column to column, at least the
                                 rows; default: the rows rounded up to a multiple of 4 (16 bytes) */
} fg_scale_layout;

/**
 * A matrix that is read: rows of contiguous elements, `ld` elements from row to row, `stride` elements from matrix to matrix.
 * `ld` 0: the length of a row. `stride` 0: packed, rows * ld. The scales' `scale_ld`, `scale_stride` are in floats, 0: packed.
 * A stride between things of which there is only one is not looked at. data is aligned to its element, scale to 4 bytes.
 */
typedef struct fg_operand {
  const void *data;
  const float *scale; /**< of A and B; NULL elsewhere */
  int64_t ld, stride;
  int64_t scale_ld, scale_stride;
  fg_type type;
  fg_scaling scaling;
  fg_scale_layout scale_layout;
} fg_operand;

/** A matrix that is written, described like fg_operand. Nothing but its elements is written: gaps stay as they are. */
typedef struct fg_result {
  void *data;
  float *scale; /**< of quantised output; NULL elsewhere */
  int64_t ld, stride;
  int64_t scale_ld, scale_stride;
  fg_type type;
  fg_scaling scaling;
  fg_scale_layout scale_layout;
} fg_result;

/** @}
 * @name The problem
 * @{ */

/**
 * What is multiplied. G is `groups`.
 *
 * | kind            | A         | B         | C, D      | bias   | for each                                   |
 * |-----------------|-----------|-----------|-----------|--------|--------------------------------------------|
 * | FG_DENSE        | [m, k]    | [n, k]    | [m, n]    | [n]    |                                            |
 * | FG_BATCHED      | [G, m, k] | [G, n, k] | [G, m, n] | [G, n] | g: D[g] = C[g] + A[g] B[g]ᵀ                |
 * | FG_GROUPED_ROWS | [m, k]    | [G, n, k] | [m, n]    | [G, n] | row i of group g: D[i] = C[i] + A[i] B[g]ᵀ |
 * | FG_MASKED       | [G, m, k] | [G, n, k] | [G, m, n] | [G, n] | g: the first counts[g] of the m rows       |
 * | FG_GROUPED_K    | [m, k]    | [n, k]    | [G, m, n] | [G, n] | g: over its range of K                     |
 *
 * Rows that belong to no group are neither read nor written. A group with an empty range of K gives D[g] = C[g] + bias, or 0.
 * FG_GROUPED_K: blocks of 128 start anew with each group and their scales stand side by side: group g's first column of
 * scales is sum over h < g of ceil(k_h / 128). scale_ld must leave room for all of them: the default, ceil(k / 128), does where
 * every range but the last is a multiple of 128; else give one (too small: FG_BAD_STRIDE, seen in host memory only; ceil(k / 128)
 * + G columns are always enough). A single row of scales needs no scale_ld.
 */
typedef enum fg_kind { FG_DENSE = 0, FG_BATCHED = 1, FG_GROUPED_ROWS = 2, FG_MASKED = 3, FG_GROUPED_K = 4 } fg_kind;

/**
 * What group_values says, of rows (FG_GROUPED_ROWS, FG_MASKED) or of K (FG_GROUPED_K). up(x): x rounded up to group_align.
 * Ranges ascend and stay within m (or k). An end equal to the end before it is an empty group.
 */
typedef enum fg_group_by {
  FG_BY_DEFAULT = 0, /**< index for FG_GROUPED_ROWS, counts for FG_MASKED and FG_GROUPED_K */
  FG_BY_INDEX = 1,   /**< [m]: each row's group, -1: none. FG_GROUPED_ROWS only */
  FG_BY_ENDS = 2,    /**< [G]: group g is up(ends[g - 1]) ... ends[g]. Not for FG_MASKED */
  FG_BY_OFFSETS = 3, /**< [G + 1]: group g is offsets[g] ... offsets[g + 1]. Not for FG_MASKED */
  FG_BY_COUNTS = 4   /**< [G]: group g has counts[g], from up(end of g - 1), or from 0 for FG_MASKED */
} fg_group_by;

/** The type of group_values' integers. */
typedef enum fg_index_type { FG_INT32 = 0, FG_INT64 = 1 } fg_index_type;

/**
 * The ladder, each rung one idea; fg_levels() tells about them.
 *
 * FG_WGMMA to FG_CLUSTER multiply FG_DENSE problems with FG_1X128 scales of A and FG_128X128 of B, m, n and k up to 2^31 - 1024, k a
 * multiple of 16; A and B begin at multiples of 16 bytes, and so do their rows. From FG_TMA on, A's scales are FG_ROWS_CONTIGUOUS and begin,
 * as each column of them, at multiples of 16 bytes too. FG_CLUSTER adds neither C nor bias, and wants the same of D and its rows, unless
 * these are shorter than 16 bytes. sm_limit is for FG_PERSISTENT and FG_CLUSTER. Anything else is FG_UNSUPPORTED.
 *
 * FG_FULL multiplies FG_DENSE problems with FG_1X128 scales of A and FG_128X128 or FG_1X128 of B, in either layout and wherever they begin,
 * into any D, with C and bias, for m, n and k up to 2^31 - 1024 and split_k up to 8: A and B begin at multiples of 16 bytes, and so do
 * their rows. It is fastest where scales for each row are FG_ROWS_CONTIGUOUS and they and D begin, and are apart, by multiples of 16 bytes,
 * n is a multiple of 8, D has 16 bits, and nothing is added.
 */
typedef enum fg_level {
  FG_BEST = 0,      /**< the fastest that runs the problem here; on the CPU FG_BLAS, but FG_EXACT with FG_NO_SPLIT_K; in a
                         CUDA context FG_FULL where that serves it, else FG_SHARED */
  FG_EXACT = 1,     /**< CPU: FP64 */
  FG_REFERENCE = 2, /**< CPU: FP32, k ascending; the definition of the family fp32 */
  FG_BLAS = 3,      /**< CPU: through sgemm; within the bound of the family fp32 */
  FG_HOPPER = 4,    /**< CPU: a Hopper tensor core's bits; the definition of the family hopper */
  FG_NAIVE = 5,     /**< any CUDA GPU */
  FG_SHARED = 6,    /**< any CUDA GPU */
  FG_WGMMA = 7,     /**< Hopper, as all below */
  FG_TMA = 8,
  FG_PIPELINE = 9,
  FG_PERSISTENT = 10,
  FG_CLUSTER = 11,
  FG_FULL = 12 /**< two kernels: for many rows of A, and for few */
} fg_level;

/** For fg_problem::flags and fg_conversion::flags. */
enum fg_flags {
  FG_NO_SPLIT_K = 1,      /**< fg_problem: a row's bits depend on that row alone, not on m, padding or plan */
  FG_UE8M0 = 2,           /**< fg_quantize: scales are powers of two, rounded up */
  FG_DEPENDENT_LAUNCH = 4 /**< fg_problem, in a CUDA context: blocks may be launched while what is before them in the stream still
                               runs, and wait for its end themselves (programmatic dependent launch). Hopper; else ignored */
};

/** One call's work. */
typedef struct fg_problem {
  fg_kind kind;
  int64_t m, n, k; /**< any from 0; k need not be a multiple of 128 */
  int64_t groups;  /**< G; not looked at for FG_DENSE */
  fg_operand a, b; /**< FG_E4M3 or FG_E5M2 each, with scales */
  fg_operand c;    /**< BF16, FP16 or FP32; data NULL: none. May be D itself: same data, type, ld and stride */
  fg_operand bias; /**< BF16, FP16 or FP32, [n] or [G, n] with `stride`; data NULL: none */
  fg_result d;     /**< BF16, FP16 or FP32. NaN is written as 0x7FFF or 0x7FFFFFFF */
  fg_group_by group_by;
  fg_index_type group_type;
  const void *group_values; /**< in the same memory as A; aligned to its integers */
  int64_t group_align;      /**< for ends and counts; 0: 1 */
  int64_t expected_m;       /**< FG_MASKED: rows to expect in a group, for the plan only; 0: not known */
  fg_level level;
  struct CUstream_st *stream; /**< of a CUDA context; NULL: the default stream. NULL in a CPU context */
  int sm_limit;               /**< use at most so many multiprocessors; 0: all. A CPU ignores it */
  int split_k;    /**< K in so many ranges, summed apart and then added in order (docs/numerics.md); at most the blocks
                                   of K count. 0: as the plan says, 1 in a CPU context. More than 1: FG_HOPPER, FG_FULL */
  unsigned flags; /**< FG_NO_SPLIT_K, FG_DEPENDENT_LAUNCH */
  const struct fg_plan *plan; /**< of a GPU level, for experiments: finegemm_kernels.h. NULL: the library's own */
} fg_problem;

/** @}
 * @name Run
 * @{ */

/** What memory the pointers of a context's calls are in. */
typedef enum fg_device { FG_CPU = 0, FG_CUDA = 1 } fg_device;

/** Holds what outlives a call. */
typedef struct fg_context fg_context;

/** How a context is made. */
typedef struct fg_context_options {
  fg_device device;
  int ordinal; /**< which CUDA device; 0 for the CPU */
  int threads; /**< for CPU levels, at most, up to 1024; 0: as many as the process may run on */
} fg_context_options;

/**
 * Makes a context. options NULL: all defaults, the CPU. Allocates; not bound to the calling thread. A CUDA context is the device's
 * primary one, shared with the CUDA runtime's users: in whatever it is called, a call leaves the thread's current context as found.
 * @return FG_OK; FG_NULL_POINTER: out; FG_BAD_ENUM: device; FG_BAD_SIZE: ordinal or threads; FG_UNSUPPORTED: a CUDA context in
 *         a build or on a machine without CUDA; FG_DRIVER_ERROR; FG_OUT_OF_MEMORY. On failure *out is NULL (if out is not).
 */
FG_API fg_status fg_context_create(fg_context **out, const fg_context_options *options);

/** Frees a context, NULL too. No call may be using it. */
FG_API void fg_context_destroy(fg_context *context);

/**
 * D = C + A Bᵀ. Reads the operands, writes D.
 *
 * In a CPU context it blocks until D is written, runs on up to fg_context_options::threads threads, allocates work space
 * (FG_BLAS: under 8 MB for each thread), and takes up to 256 KB of the calling thread's stack (a build without optimisation: 512).
 * In a CUDA context pointers are to memory that the device reaches, and the work is put on `stream`; the first call for a level,
 * types and tile (of FG_FULL also scaling of B, and what fg_prepare() says) loads its kernel, compiled if it is in no cache (which
 * blocks), and every later one neither blocks nor allocates.
 * Values in device memory are not looked at: groups out of range are cut to what there is.
 * @return FG_OK; FG_NULL_POINTER, FG_BAD_SIZE, FG_BAD_ENUM, FG_BAD_STRIDE, FG_MISALIGNED, FG_OVERLAP, FG_BAD_SCALE,
 *         FG_BAD_GROUPS, FG_BAD_PLAN: the problem; FG_UNSUPPORTED: the level cannot run here, a stream in a CPU context, FP8
 *         output or d.scale; FG_OUT_OF_MEMORY. In a CUDA context also FG_BAD_MEMORY: a pointer; FG_NOT_PREPARED;
 *         FG_COMPILE_ERROR; FG_DRIVER_ERROR, after which D may be anything.
 */
FG_API fg_status fg_gemm(fg_context *context, const fg_problem *problem);

/**
 * Does all that a later fg_gemm() of such a problem would otherwise do the first time: in a CUDA context, loads the kernel, which
 * may compile it; in a CPU context there is nothing. Checks the problem as fg_gemm() does but follows no pointer, so that they may
 * be any that are aligned and apart (FG_FULL has other kernels for scales and D that are not aligned to 16 bytes, n no multiple of 8, and for C or bias).
 * After it fg_gemm() can be captured in a CUDA graph.
 * @return as fg_gemm(), without FG_BAD_SCALE, FG_BAD_GROUPS, FG_BAD_MEMORY and FG_NOT_PREPARED.
 */
FG_API fg_status fg_prepare(fg_context *context, const fg_problem *problem);

/**
 * What D should be, and how far from it the problem's level may be. `value` and `bound` are packed arrays of D's shape: the
 * FP64 value of C + A Bᵀ + bias, and the largest legal |D - value| (docs/numerics.md derives it) for problem->level and d.type;
 * either may be NULL. Elements of D that fg_gemm() would not write are not written here. A NaN value wants a NaN, an infinite
 * one that infinity; compare as `!(error <= bound)`. d.data is not looked at. Blocks; CPU contexts only.
 * @return as fg_gemm(), FG_OVERLAP and FG_NULL_POINTER being about value and bound instead of D.
 */
FG_API fg_status fg_exact(fg_context *context, const fg_problem *problem, double *value, double *bound);

/** @}
 * @name Quantise
 * @{ */

/** `groups` matrices (0: one) of [rows, cols], from one type into another. */
typedef struct fg_conversion {
  int64_t rows, cols, groups;
  fg_operand from;
  fg_result to;
  struct CUstream_st *stream; /**< as in fg_problem */
  unsigned flags;             /**< FG_UE8M0 */
} fg_conversion;

/**
 * Quantises BF16, FP16 or FP32 (the default) to FP8 and scales. Groups of elements at the edges are short. For each group:
 *
 *     scale = RN(max(max |x|, 1e-4f) / 448.0f)            57344.0f for E5M2; FG_UE8M0: then the least power of two >= it
 *     q     = FP8(RN(x * RN(1.0f / scale)))               to nearest even, saturating
 *
 * Same bits on every machine. `to` has scales like an operand's; blocks, allocates at most a few KB.
 * @return FG_OK; FG_NULL_POINTER, FG_BAD_SIZE, FG_BAD_ENUM, FG_BAD_STRIDE, FG_MISALIGNED, FG_OVERLAP; FG_BAD_VALUE: NaN or
 *         infinity in from; FG_UNSUPPORTED: a stream in a CPU context; FG_OUT_OF_MEMORY.
 */
FG_API fg_status fg_quantize(fg_context *context, const fg_conversion *conversion);

/**
 * FP8 and scales back to BF16, FP16 or FP32 (the default): round(RN(value * scale)). Blocks, does not allocate.
 * @return FG_OK; FG_NULL_POINTER, FG_BAD_SIZE, FG_BAD_ENUM, FG_BAD_STRIDE, FG_MISALIGNED, FG_OVERLAP; FG_UNSUPPORTED: a stream
 *         in a CPU context.
 */
FG_API fg_status fg_dequantize(fg_context *context, const fg_conversion *conversion);

/**
 * Any type to any type without scales, to nearest even. To FP8: saturating, infinity too. To BF16, FP16: overflow gives
 * infinity. NaN of any sign and payload becomes the one NaN 0x7F (FP8), 0x7FFF (BF16, FP16), 0x7FFFFFFF (FP32). Blocks,
 * does not allocate.
 * @return as fg_dequantize(), and FG_BAD_ENUM for a scale that is not NULL.
 */
FG_API fg_status fg_convert(fg_context *context, const fg_conversion *conversion);

/** @}
 * @name A Hopper tensor core's arithmetic
 * @{ */

/** How one step, a `wgmma` with k = 32, came to one output. Terms are multiples of 2^(exponent - 13), cut toward zero. */
typedef struct fg_mma_step {
  float product[32]; /**< a b, exact; NaN is 0x7FFFFFFF */
  int32_t term[32];  /**< of the products */
  float c;           /**< the accumulator before the step */
  int32_t c_term;
  int exponent; /**< the largest of a product, as the sum of its factors' exponents, or of c; zeros do not count */
  int32_t sum;  /**< of all terms, exact. Terms, exponent and sum are 0 where all terms are zero or d is not finite */
  float d;      /**< sum * 2^(exponent - 13), cut to 13 fraction bits: the accumulator after the step */
} fg_mma_step;

/**
 * d = c + a · b as the tensor core's FP8 path gives it, in ceil(k / 32) steps of which each continues the one before; what is
 * missing from the last counts as zero. a [k] and b [k] are FP8 codes (FG_DEFAULT_TYPE: E4M3), c is any FP32; a step gives NaN as
 * 0x7FFFFFFF. With k = 0 there is no step, and d is c as it is. `steps` [ceil(k / 32)] gets every intermediate; NULL: none. Source:
 * measured on an H100; docs/numerics.md has the definition, docs/tensor_core.md how it was checked. This goes one step after
 * another, and knows no scales: the level FG_HOPPER is what multiplies matrices.
 * @return FG_OK; FG_BAD_ENUM: a_type or b_type; FG_BAD_SIZE: k; FG_NULL_POINTER: a, b or d.
 */
FG_API fg_status fg_mma(fg_type a_type, const void *a, fg_type b_type, const void *b, int64_t k, float c, float *d,
                        fg_mma_step *steps);

/** @}
 * @name Levels, and what works here
 * @{ */

/** A rung of the ladder. All strings are static. */
typedef struct fg_level_info {
  fg_level level;
  const char *name;  /**< "reference" */
  const char *idea;  /**< what it adds to the rung before */
  const char *needs; /**< "any CPU" */
  fg_device memory;  /**< the memory its operands are in */
  fg_level twin; /**< the CPU level whose bits it equals (may be itself); FG_EXACT: none, it keeps within fg_exact()'s bound */
} fg_level_info;

/** The table of all levels in climbing order, and their number in *count (may be NULL). Static. */
FG_API const fg_level_info *fg_levels(int *count);

/**
 * Whether the level runs in this context.
 * @return FG_OK; FG_NULL_POINTER: context; FG_BAD_ENUM: no such level; FG_UNSUPPORTED: it does not, and fg_message() says why.
 */
FG_API fg_status fg_can_run(const fg_context *context, fg_level level);

/** Something that finegemm depends on. */
typedef struct fg_finding {
  const char *name; /**< "cpu", "blas", "driver", ... */
  int works;        /**< 1: yes; 0: no, and what needs it is off */
  char found[200];  /**< what is here */
  char advice[200]; /**< what to do about it; "" if nothing */
} fg_finding;

/** Looks at the machine. Fills at most `capacity` findings (may be NULL with 0) and returns how many there are. */
FG_API int fg_doctor(fg_finding *findings, int capacity);

/** @} */

#ifdef __cplusplus
}
#endif
#endif
