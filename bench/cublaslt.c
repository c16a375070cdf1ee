#include "cublaslt.h"

#include <stdio.h>
#include <stdlib.h>

const char *peer_name(enum peer_kind kind) {
  static const char *const names[PEER_KINDS] = {"cublaslt-block", "cublaslt-tensor", "cublaslt-promoted", "cublaslt-bf16"};
  return names[kind];
}

#if __has_include(<cublasLt.h>)
#include <cublasLt.h>
#endif

#if defined CUBLAS_VERSION && CUBLAS_VERSION >= 120900 /* the first with scales for blocks */

#include "library.h"

#define FUNCTIONS(X)                                                                                                             \
  X(cublasLtCreate)                                                                                                              \
  X(cublasLtDestroy)                                                                                                             \
  X(cublasLtGetStatusString)                                                                                                     \
  X(cublasLtGetVersion)                                                                                                          \
  X(cublasLtMatmul)                                                                                                              \
  X(cublasLtMatmulAlgoGetHeuristic)                                                                                              \
  X(cublasLtMatmulDescCreate)                                                                                                    \
  X(cublasLtMatmulDescDestroy)                                                                                                   \
  X(cublasLtMatmulDescSetAttribute)                                                                                              \
  X(cublasLtMatmulPreferenceCreate)                                                                                              \
  X(cublasLtMatmulPreferenceDestroy)                                                                                             \
  X(cublasLtMatmulPreferenceSetAttribute)                                                                                        \
  X(cublasLtMatrixLayoutCreate)                                                                                                  \
  X(cublasLtMatrixLayoutDestroy)

struct cublaslt {
  cublasLtHandle_t handle;
#define MEMBER(function) __typeof__(function) *function;
  FUNCTIONS(MEMBER)
#undef MEMBER
};

/* For cuBLASLt every matrix is column-major, so that it is told of Dᵀ[n, m] = B Aᵀ: its A is our B, transposed, and its B our A. */
struct peer_product {
  const struct cublaslt *cublaslt;
  struct peer_operands operands;
  cublasLtMatmulDesc_t operation;
  cublasLtMatrixLayout_t a, b, d;
  cublasLtMatmulHeuristicResult_t found[PEER_ALGORITHMS];
};

struct cublaslt *cublaslt_open(char *why, size_t why_bytes) {
  static const char *const names[] = {"libcublasLt.so.13", "libcublasLt.so.12", NULL};
#define SYMBOL(function) {#function, offsetof(struct cublaslt, function), true},
  static const struct fg_symbol symbols[] = {FUNCTIONS(SYMBOL)};
#undef SYMBOL
  const char *name = NULL;
  char words[256];
  void *library = fg_library_open("FG_CUBLASLT", names, &name, words, sizeof words);
  if (!library) {
    snprintf(why, why_bytes, "no cuBLASLt here (%s); name its library in FG_CUBLASLT", words);
    return NULL;
  }
  struct cublaslt *cublaslt = calloc(1, sizeof *cublaslt);
  const char *missing = cublaslt ? fg_library_resolve(library, symbols, sizeof symbols / sizeof *symbols, cublaslt) : "memory";
  if (missing) {
    snprintf(why, why_bytes, "%s cannot be used: no %s", name, missing);
  } else {
    cublasStatus_t status = cublaslt->cublasLtCreate(&cublaslt->handle);
    if (status == CUBLAS_STATUS_SUCCESS) return cublaslt;
    snprintf(why, why_bytes, "cublasLtCreate() of %s: %s", name, cublaslt->cublasLtGetStatusString(status));
  }
  free(cublaslt);
  return NULL;
}

void cublaslt_close(struct cublaslt *cublaslt) {
  if (cublaslt) cublaslt->cublasLtDestroy(cublaslt->handle);
  free(cublaslt);
}

int cublaslt_version(const struct cublaslt *cublaslt) { return (int)cublaslt->cublasLtGetVersion(); }

void peer_free(struct peer_product *product) {
  if (!product) return;
  const struct cublaslt *cublaslt = product->cublaslt;
  if (product->a) cublaslt->cublasLtMatrixLayoutDestroy(product->a);
  if (product->b) cublaslt->cublasLtMatrixLayoutDestroy(product->b);
  if (product->d) cublaslt->cublasLtMatrixLayoutDestroy(product->d);
  if (product->operation) cublaslt->cublasLtMatmulDescDestroy(product->operation);
  free(product);
}

static cublasStatus_t describe_operation(struct peer_product *product, enum peer_kind kind) {
  const cublasOperation_t transposed = CUBLAS_OP_T;
  const int8_t fast = kind == PEER_TENSOR;
  const int32_t of_a = CUBLASLT_MATMUL_MATRIX_SCALE_BLK128x128_32F, of_b = CUBLASLT_MATMUL_MATRIX_SCALE_VEC128_32F;
  const struct {
    cublasLtMatmulDescAttributes_t attribute;
    const void *value;
    size_t bytes;
  } attributes[] = {{CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof transposed},
                    {CUBLASLT_MATMUL_DESC_FAST_ACCUM, &fast, sizeof fast},
                    {CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, &product->operands.b_scale, sizeof product->operands.b_scale},
                    {CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, &product->operands.a_scale, sizeof product->operands.a_scale},
                    {CUBLASLT_MATMUL_DESC_A_SCALE_MODE, &of_a, sizeof of_a},
                    {CUBLASLT_MATMUL_DESC_B_SCALE_MODE, &of_b, sizeof of_b}};
  const int counts[PEER_KINDS] = {[PEER_BLOCK] = 6, [PEER_TENSOR] = 4, [PEER_PROMOTED] = 4, [PEER_BF16] = 1};
  const struct cublaslt *cublaslt = product->cublaslt;
  cublasStatus_t status = cublaslt->cublasLtMatmulDescCreate(&product->operation, CUBLAS_COMPUTE_32F, CUDA_R_32F);
  for (int i = 0; i < counts[kind] && status == CUBLAS_STATUS_SUCCESS; i++)
    status = cublaslt->cublasLtMatmulDescSetAttribute(product->operation, attributes[i].attribute, attributes[i].value,
                                                      attributes[i].bytes);
  return status;
}

static cublasStatus_t describe_matrices(struct peer_product *product, enum peer_kind kind) {
  const struct cublaslt *cublaslt = product->cublaslt;
  uint64_t m = (uint64_t)product->operands.m, n = (uint64_t)product->operands.n, k = (uint64_t)product->operands.k;
  if (kind == PEER_BLOCK) m = (m + 3) / 4 * 4; /* the distance of its scales' columns, which must be whole 16 bytes */
  cudaDataType_t type = kind == PEER_BF16 ? CUDA_R_16BF : CUDA_R_8F_E4M3;
  cublasStatus_t status = cublaslt->cublasLtMatrixLayoutCreate(&product->a, type, k, n, (int64_t)k);
  if (status == CUBLAS_STATUS_SUCCESS) status = cublaslt->cublasLtMatrixLayoutCreate(&product->b, type, k, m, (int64_t)k);
  if (status == CUBLAS_STATUS_SUCCESS) status = cublaslt->cublasLtMatrixLayoutCreate(&product->d, CUDA_R_16BF, n, m, (int64_t)n);
  return status;
}

static cublasStatus_t find_algorithms(struct peer_product *product, int *count) {
  const struct cublaslt *cublaslt = product->cublaslt;
  const size_t workspace_bytes = PEER_WORKSPACE_BYTES;
  cublasLtMatmulPreference_t preference = NULL;
  cublasStatus_t status = cublaslt->cublasLtMatmulPreferenceCreate(&preference);
  if (status == CUBLAS_STATUS_SUCCESS)
    status = cublaslt->cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                            &workspace_bytes, sizeof workspace_bytes);
  if (status == CUBLAS_STATUS_SUCCESS)
    status = cublaslt->cublasLtMatmulAlgoGetHeuristic(cublaslt->handle, product->operation, product->a, product->b, product->d,
                                                      product->d, preference, PEER_ALGORITHMS, product->found, count);
  if (preference) cublaslt->cublasLtMatmulPreferenceDestroy(preference);
  return status;
}

struct peer_product *peer_prepare(const struct cublaslt *cublaslt, enum peer_kind kind, const struct peer_operands *operands,
                                  int *algorithms, char *why, size_t why_bytes) {
  *algorithms = 0;
  struct peer_product *product = calloc(1, sizeof *product);
  if (!product) {
    snprintf(why, why_bytes, "no memory");
    return NULL;
  }
  product->cublaslt = cublaslt;
  product->operands = *operands;
  cublasStatus_t status = describe_operation(product, kind);
  if (status == CUBLAS_STATUS_SUCCESS) status = describe_matrices(product, kind);
  if (status == CUBLAS_STATUS_SUCCESS) status = find_algorithms(product, algorithms);
  if (status == CUBLAS_STATUS_SUCCESS && *algorithms > 0) return product;
  snprintf(why, why_bytes, "cuBLASLt has no algorithm for it (%s)", cublaslt->cublasLtGetStatusString(status));
  peer_free(product);
  return NULL;
}

const char *peer_run(const struct peer_product *product, int algorithm) {
  const struct cublaslt *cublaslt = product->cublaslt;
  const struct peer_operands *operands = &product->operands;
  const float one = 1, zero = 0;
  cublasStatus_t status = cublaslt->cublasLtMatmul(
      cublaslt->handle, product->operation, &one, operands->b, product->a, operands->a, product->b, &zero, operands->d,
      product->d, operands->d, product->d, &product->found[algorithm].algo, operands->workspace, PEER_WORKSPACE_BYTES, NULL);
  return status == CUBLAS_STATUS_SUCCESS ? NULL : cublaslt->cublasLtGetStatusString(status);
}

#else

struct cublaslt *cublaslt_open(char *why, size_t why_bytes) {
  snprintf(why, why_bytes, "built without cuBLASLt's header, cublasLt.h of CUDA 12.9 or newer");
  return NULL;
}

/* Nobody has what cublaslt_open() never gives. */
void cublaslt_close(struct cublaslt *cublaslt) { (void)cublaslt; }
int cublaslt_version(const struct cublaslt *cublaslt) { return (void)cublaslt, 0; }
void peer_free(struct peer_product *product) { (void)product; }
const char *peer_run(const struct peer_product *product, int algorithm) { return (void)product, (void)algorithm, NULL; }

struct peer_product *peer_prepare(const struct cublaslt *cublaslt, enum peer_kind kind, const struct peer_operands *operands,
                                  int *algorithms, char *why, size_t why_bytes) {
  (void)cublaslt, (void)kind, (void)operands;
  *algorithms = 0;
  return snprintf(why, why_bytes, "no cuBLASLt"), NULL;
}

#endif
