/* NVIDIA's cuBLASLt, opened at run time: what it makes of the product that the levels are timed on. */
#ifndef CUBLASLT_H
#define CUBLASLT_H

#include <stddef.h>
#include <stdint.h>

enum peer_kind {
  PEER_BLOCK,    /* FP8, scales 1x128 of A and 128x128 of B */
  PEER_TENSOR,   /* FP8, a scale for each matrix; fast accumulation: sums stay in the tensor core from end to end of K */
  PEER_PROMOTED, /* the same without fast accumulation: sums are promoted to FP32 on the way */
  PEER_BF16,
  PEER_KINDS
};

enum { PEER_WORKSPACE_BYTES = 64 << 20, PEER_ALGORITHMS = 8 };

/* "cublaslt-block". Static. */
const char *peer_name(enum peer_kind kind);

/* D[m, n] = A[m, k] B[n, k]ᵀ, rows contiguous, in device memory, D in BF16. up4(x): x rounded up to a multiple of 4.
 * PEER_BLOCK multiplies up4(m) rows: A and D must have them. Its a_scale is [ceil(k / 128), up4(m)], its b_scale
 * [ceil(n / 128), up4(ceil(k / 128))]. PEER_TENSOR and PEER_PROMOTED take the first of each; PEER_BF16 none. */
struct peer_operands {
  int64_t m, n, k;
  const void *a, *b;
  const float *a_scale, *b_scale;
  void *d, *workspace; /* PEER_WORKSPACE_BYTES */
};

struct cublaslt;
struct peer_product;

/* The library that FG_CUBLASLT in the environment names, else libcublasLt.so.13 or .12, for the CUDA context that is current.
 * NULL: there is none that works, and `why` [why_bytes] says so. */
struct cublaslt *cublaslt_open(char *why, size_t why_bytes);
void cublaslt_close(struct cublaslt *cublaslt);

/* As 130100. */
int cublaslt_version(const struct cublaslt *cublaslt);

/* A product, ready to be run by *algorithms ways, at most PEER_ALGORITHMS, in the order in which cuBLASLt's heuristic thinks well of
 * them. NULL: it has none, and `why` says so. */
struct peer_product *peer_prepare(const struct cublaslt *cublaslt, enum peer_kind kind, const struct peer_operands *operands,
                                  int *algorithms, char *why, size_t why_bytes);
void peer_free(struct peer_product *product);

/* Puts the product on the default stream. NULL, or what was wrong with it. */
const char *peer_run(const struct peer_product *product, int algorithm);

#endif
