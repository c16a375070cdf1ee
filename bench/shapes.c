#include "shapes.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char what_is_taken[] =
    "--shapes takes M x N x K as 512x7168x2048, each from 1 to 2147483647, and the sets ladder, seed, models, small, large, squares, "
    "sweep and random:SEED, commas between them";
static const char no_memory[] = "--shapes: there is no memory for so many";

/* The weights of a linear layer, B [n, k]. */
struct layer {
  int n, k;
};

/* Of DeepSeek-V3 and its experts. */
static const struct layer seed_layers[] = {{2112, 7168},  {576, 7168},  {24576, 1536}, {32768, 512},
                                           {7168, 16384}, {4096, 7168}, {7168, 2048}};

/* From what models' config.json says. q, kv, o: the projections of attention; gate-up: both halves of the feed-forward network's first
 * step, side by side, n = 2 intermediate_size; down: its second. Of fused q, k and v n is (heads + 2 kv heads) head_dim. What is
 * routed to experts is no dense product; an expert that all tokens share is. A layer that a model before it has is left out. */
static const struct layer model_layers[] = {
    /* DeepSeek-V3: hidden 7168, 128 heads of 128 + 64 and of 128 for v, ranks 1536 and 512, intermediate 18432, expert 2048 */
    {2112, 7168},  /* q and kv down to their ranks: 1536 + 512 + 64 */
    {24576, 1536}, /* q up */
    {32768, 512},  /* kv up */
    {7168, 16384}, /* o */
    {36864, 7168}, /* gate-up */
    {7168, 18432}, /* down */
    {4096, 7168},  /* shared expert's gate-up */
    {7168, 2048},  /* and down */
    /* Kimi K2: the same but for 64 heads */
    {12288, 1536}, /* q up */
    {16384, 512},  /* kv up */
    {7168, 8192},  /* o */
    /* Qwen3-8B: hidden 4096, 32 heads of 128 and 8 of kv, intermediate 12288 */
    {6144, 4096},  /* qkv */
    {4096, 4096},  /* o */
    {24576, 4096}, /* gate-up */
    {4096, 12288}, /* down */
    /* Qwen3-14B: hidden 5120, 40 heads and 8 of kv, intermediate 17408 */
    {7168, 5120},  /* qkv */
    {5120, 5120},  /* o */
    {34816, 5120}, /* gate-up */
    {5120, 17408}, /* down */
    /* Qwen3-32B: hidden 5120, 64 heads and 8 of kv, intermediate 25600 */
    {10240, 5120}, /* qkv */
    {5120, 8192},  /* o */
    {51200, 5120}, /* gate-up */
    {5120, 25600}, /* down */
    /* Qwen3-30B-A3B: hidden 2048, 32 heads and 4 of kv */
    {5120, 2048}, /* qkv */
    {2048, 4096}, /* o */
    /* Qwen3-235B-A22B: hidden 4096, 64 heads and 4 of kv */
    {9216, 4096}, /* qkv */
    {4096, 8192}, /* o */
    /* Llama 3 8B: hidden 4096, 32 heads and 8 of kv, intermediate 14336; qkv and o as Qwen3-8B */
    {28672, 4096}, /* gate-up */
    {4096, 14336}, /* down */
    /* Llama 3 70B: hidden 8192, 64 heads and 8 of kv, intermediate 28672 */
    {10240, 8192}, /* qkv */
    {8192, 8192},  /* o */
    {57344, 8192}, /* gate-up */
    {8192, 28672}, /* down */
    /* Llama 3 405B: hidden 16384, 128 heads and 8 of kv, intermediate 53248 */
    {18432, 16384},  /* qkv */
    {16384, 16384},  /* o */
    {106496, 16384}, /* gate-up */
    {16384, 53248},  /* down */
    /* GLM-4.5 and 4.6: hidden 5120, 96 heads and 8 of kv, intermediate 12288, expert 1536 */
    {14336, 5120}, /* qkv */
    {5120, 12288}, /* o, and down */
    {24576, 5120}, /* gate-up */
    {3072, 5120},  /* shared expert's gate-up */
    {5120, 1536},  /* and down */
    /* GLM-4.5-Air: hidden 4096, 96 heads and 8 of kv, intermediate 10944, expert 1408; o as Qwen3-8B's down */
    {14336, 4096}, /* qkv */
    {21888, 4096}, /* gate-up */
    {4096, 10944}, /* down */
    {2816, 4096},  /* shared expert's gate-up */
    {4096, 1408},  /* and down */
};

/* Few tiles, the usual, and many with a short K. */
static const struct layer swept_layers[] = {{2112, 7168}, {4096, 7168}, {24576, 1536}};
enum { LAST_SWEPT_M = 512 };

static const int seed_ms[] = {1, 64, 128, 4096};
static const int model_ms[] = {1, 16, 64, 128, 512, 4096};
static const int small_ms[] = {1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128};
static const int large_ms[] = {1024, 2048, 4096, 8192};

#define COUNT(array) (int)(sizeof(array) / sizeof *(array))

/* Each layer at each m. */
static const struct set {
  const char *name;
  const struct layer *layers;
  int layer_count;
  const int *ms; /* NULL: from 1 to LAST_SWEPT_M */
  int m_count;
} sets[] = {
    {"seed", seed_layers, COUNT(seed_layers), seed_ms, COUNT(seed_ms)},
    {"models", model_layers, COUNT(model_layers), model_ms, COUNT(model_ms)},
    {"small", seed_layers, COUNT(seed_layers), small_ms, COUNT(small_ms)},
    {"large", seed_layers, COUNT(seed_layers), large_ms, COUNT(large_ms)},
    {"sweep", swept_layers, COUNT(swept_layers), NULL, LAST_SWEPT_M},
};

static const struct shape ladder[] = {{4096, 7168, 16384, false}, {4096, 4096, 7168, false}, {64, 7168, 16384, false}};
static const int squares[] = {256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 12288, 16384};

bool parse_size(const char **text, char end, int64_t *size) {
  char *stop;
  errno = 0;
  long long value = strtoll(*text, &stop, 10);
  if (errno || stop == *text || *stop != end || value < 1 || value > INT_MAX) return false;
  *size = value;
  *text = *stop ? stop + 1 : stop;
  return true;
}

/* A shape that is there already stays where it is; it is swept only if nobody names it otherwise. */
static bool add(struct shape_list *list, struct shape shape) {
  for (int i = 0; i < list->count; i++) {
    struct shape *other = &list->items[i];
    if (other->m == shape.m && other->n == shape.n && other->k == shape.k) return other->is_swept &= shape.is_swept, true;
  }
  if ((list->count & (list->count - 1)) == 0) { /* full: there is room for the next power of two */
    size_t room = list->count > 0 ? 2 * (size_t)list->count : 1;
    struct shape *items = realloc(list->items, room * sizeof *items);
    if (!items) return false;
    list->items = items;
  }
  list->items[list->count++] = shape;
  return true;
}

static bool add_set(struct shape_list *list, const struct set *set) {
  for (int layer = 0; layer < set->layer_count; layer++)
    for (int i = 0; i < set->m_count; i++)
      if (!add(list, (struct shape){set->ms ? set->ms[i] : i + 1, set->layers[layer].n, set->layers[layer].k, !set->ms}))
        return false;
  return true;
}

/* From 1 to most, every octave as likely as another. */
static int64_t random_size(uint64_t *seed, double most) {
  *seed = *seed * 6364136223846793005u + 1442695040888963407u;
  return (int64_t)exp2((double)(*seed >> 11) * 0x1p-53 * log2(most + 1));
}

/* K is a multiple of 16, as cuBLASLt and the levels with tensor cores want it. Every other shape has sizes that are as round as in most
 * models; in the rest m and n are any. */
static bool add_random(struct shape_list *list, int64_t number) {
  enum { SHAPES = 64, MOST_M = 8192, MOST_N = 32768, MOST_K = 16384 };
  uint64_t seed = (uint64_t)number;
  for (int i = 0; i < SHAPES; i++) {
    const int64_t n_unit = i % 2 ? 1 : 64, k_unit = i % 2 ? 16 : 128;
    int64_t m = random_size(&seed, MOST_M), n = n_unit * random_size(&seed, (double)(MOST_N / n_unit));
    if (!add(list, (struct shape){m, n, k_unit * random_size(&seed, (double)(MOST_K / k_unit)), false})) return false;
  }
  return true;
}

static const char *add_item(struct shape_list *list, const char *item) {
  static const char random[] = "random:";
  struct shape shape = {.is_swept = false};
  const char *rest = item;
  bool fits = true;
  int64_t number;
  for (int i = 0; i < COUNT(sets); i++)
    if (strcmp(item, sets[i].name) == 0) {
      fits = add_set(list, &sets[i]);
      if (fits && i == 0) fits = add(list, (struct shape){8192, 8192, 8192, false});
      return fits ? NULL : no_memory;
    }
  if (strcmp(item, "ladder") == 0) {
    for (int i = 0; i < COUNT(ladder); i++) fits = fits && add(list, ladder[i]);
  } else if (strcmp(item, "squares") == 0) {
    for (int i = 0; i < COUNT(squares); i++) fits = fits && add(list, (struct shape){squares[i], squares[i], squares[i], false});
  } else if (strncmp(item, random, sizeof random - 1) == 0) {
    rest += sizeof random - 1;
    if (!parse_size(&rest, 0, &number)) return what_is_taken;
    fits = add_random(list, number);
  } else {
    if (!parse_size(&rest, 'x', &shape.m) || !parse_size(&rest, 'x', &shape.n) || !parse_size(&rest, 0, &shape.k))
      return what_is_taken;
    fits = add(list, shape);
  }
  return fits ? NULL : no_memory;
}

const char *parse_shapes(const char *text, struct shape_list *list) {
  char *items = strdup(text), *next = NULL;
  if (!items) return no_memory;
  const char *wrong = NULL, *item = strtok_r(items, ",", &next);
  if (!item) wrong = what_is_taken;
  for (; item && !wrong; item = strtok_r(NULL, ",", &next)) wrong = add_item(list, item);
  free(items);
  return wrong;
}
