#include "report.h"

enum { MOST_SHAPES_IN_A_TABLE = 64, MOST_PEERS = 8 };

static const char level[] = "full";

/* The peers that were timed somewhere, in their order. Returns how many. */
static int peers_of(const json_t *file, const char *peers[MOST_PEERS]) {
  int count = 0;
  size_t r, i;
  const json_t *result, *row;
  json_array_foreach(json_object_get(file, "levels"), r, result) {
    json_array_foreach(json_object_get(result, "peers"), i, row) {
      bool is_new = number(row, "gflops") > 0 && count < MOST_PEERS;
      for (int p = 0; p < count; p++) is_new = is_new && strcmp(peers[p], text(row, "name")) != 0;
      if (is_new) peers[count++] = text(row, "name");
    }
  }
  return count;
}

/* Of the level, with the library's own plan, at the shape; NULL: it was not timed. */
static const json_t *own_row(const json_t *result) {
  size_t i;
  const json_t *row;
  json_array_foreach(json_object_get(result, "rows"), i, row)
    if (strcmp(text(row, "name"), level) == 0 && json_is_true(json_object_get(row, "own_plan")) && number(row, "gflops") > 0)
      return row;
  return NULL;
}

/* Of the peer's time over the level's, cold; NaN: one of them was not timed. */
static double ratio_of(const json_t *result, const char *peer) {
  return inside(row_of(json_object_get(result, "peers"), peer), "cold", "median_us") /
         inside(own_row(result), "cold", "median_us");
}

/* "full_h100" of "bench/results/gpu_full_h100.json". */
static void stem_of(const char *path, char *stem, size_t bytes) {
  static const char begin[] = "gpu_";
  const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
  if (strncmp(base, begin, sizeof begin - 1) == 0) base += sizeof begin - 1;
  snprintf(stem, bytes, "%.*s", (int)strcspn(base, "."), base);
}

/* --- Tables */

/* An empty cell for what is not known. */
static void print_cell(const char *format, double value) {
  printf(" ");
  if (!isnan(value)) printf(format, value);
  printf(" |");
}

static void print_least(const json_t *least) {
  if (least)
    printf(" %.2f at %.0f x %.0f x %.0f |", number(least, "value"), number(least, "m"), number(least, "n"), number(least, "k"));
  else
    printf(" |");
}

static const json_t *named(const json_t *rows, const char *name) {
  size_t i;
  const json_t *row;
  json_array_foreach(rows, i, row)
    if (strcmp(text(row, "name"), name) == 0) return row;
  return NULL;
}

static void print_classes(const json_t *file, const char *const *peers, int peer_count) {
  size_t c;
  const json_t *range;
  printf("| m | shapes | of the limit, mean | least |");
  for (int p = 0; p < peer_count; p++) printf(" times %s | settled | least |", peers[p]);
  printf("\n|---|--:|--:|---|");
  for (int p = 0; p < peer_count; p++) printf("--:|--:|---|");
  printf("\n");
  json_array_foreach(json_object_get(json_object_get(file, "summary"), "classes"), c, range) {
    if (strcmp(text(range, "level"), level) != 0) continue;
    printf("| from %.0f", number(range, "m_from"));
    if (number(range, "m_to") > 0) printf(" to %.0f", number(range, "m_to"));
    printf(" | %.0f | %.1f %% |", number(range, "shapes"), 100 * number(range, "share_of_limit"));
    print_least(json_object_get(range, "least_share"));
    for (int p = 0; p < peer_count; p++) {
      const json_t *peer = named(json_object_get(range, "peers"), peers[p]);
      print_cell("%.3f", number(peer, "cold"));
      print_cell("%.3f", number(peer, "settled"));
      print_least(json_object_get(peer, "least"));
    }
    printf("\n");
  }
}

static void print_steps(const json_t *file) {
  size_t s;
  const json_t *step, *steps = json_object_get(json_object_get(file, "summary"), "steps");
  bool is_first = true;
  json_array_foreach(steps, s, step) {
    if (strcmp(text(step, "level"), level) != 0) continue;
    if (is_first) printf("\n| n | k | steps of one in m | the largest costs | to m |\n|--:|--:|--:|--:|--:|\n");
    is_first = false;
    printf("| %.0f | %.0f | %.0f | %.1f %% | %.0f |\n", number(step, "n"), number(step, "k"), number(step, "steps"),
           100 * number(step, "largest"), number(step, "m"));
  }
}

/* Of m from `least` to `most`. */
struct rows {
  double least, most;
};
static const struct rows all_rows = {0, INFINITY};

static bool is_in(const struct rows *rows, const json_t *result) {
  return number(result, "m") >= rows->least && number(result, "m") <= rows->most;
}

static void print_shapes(const json_t *file, const struct rows *rows, const char *const *peers, int peer_count) {
  size_t r;
  const json_t *result;
  printf("\n| m | n | k | tile | | cluster | ranges of K | us | of the limit | TFLOPS | settled | MHz |");
  for (int p = 0; p < peer_count; p++) printf(" times %s |", peers[p]);
  printf("\n|--:|--:|--:|---|---|--:|--:|--:|--:|--:|--:|--:|");
  for (int p = 0; p < peer_count; p++) printf("--:|");
  printf("\n");
  json_array_foreach(json_object_get(file, "levels"), r, result) {
    const json_t *row = own_row(result);
    if (!is_in(rows, result)) continue;
    printf("| %.0f | %.0f | %.0f |", number(result, "m"), number(result, "n"), number(result, "k"));
    if (row) {
      double us = inside(row, "cold", "median_us");
      printf(" %.0fx%.0f | %s | %.0f | %.0f | %.1f | %.1f %% | %.1f |", number(row, "block_m"), number(row, "block_n"),
             text(row, "order"), number(row, "cluster"), number(row, "split_k"), us, 100 * number(result, "limit_us") / us,
             number(row, "gflops") * 1e-3);
      print_cell("%.1f", number(row, "settled_gflops") * 1e-3);
      print_cell("%.0f", inside(row, "settled", "clock_mhz"));
    } else {
      printf(" not served | | | | | | | | |");
    }
    for (int p = 0; p < peer_count; p++) print_cell("%.2f", ratio_of(result, peers[p]));
    printf("\n");
  }
}

static bool is_sweep(const char *stem) { return strncmp(stem, "sweep", strlen("sweep")) == 0; }

static void print_head(const json_t *file) {
  print_gpu_head(file);
  printf("; ");
  if (json_object_get(file, "driver_name")) printf("driver %s, ", text(file, "driver_name"));
  print_gpu_tail(file);
  if (!isnan(number(file, "cublaslt"))) printf(", cuBLASLt %.0f", number(file, "cublaslt"));
  if (json_object_get(file, "deep_gemm")) printf(", DeepGEMM %s", text(file, "deep_gemm"));
  printf("; medians of %.0f rounds.", number(file, "repeats"));
}

bool print_full_lesson(json_t *const *files, char *const *paths, int count, const char *name) {
  static const struct {
    const char *name;
    struct rows rows;
    bool has_steps; /* from one m to the next */
  } lessons[] = {{"shapes", {129, INFINITY}, false}, {"small_m", {0, 128}, true}};
  const size_t lesson = strcmp(name, lessons[1].name) == 0;
  bool is_recorded = false;
  if (strcmp(name, lessons[lesson].name) != 0) return false;
  for (int f = 0; f < count; f++) {
    const char *peers[MOST_PEERS];
    const int peer_count = peers_of(files[f], peers);
    char stem[64];
    size_t r, shapes = 0;
    const json_t *result;
    stem_of(paths[f], stem, sizeof stem);
    if (!is_full(files[f]) || (is_sweep(stem) && !lessons[lesson].has_steps)) continue;
    json_array_foreach(json_object_get(files[f], "levels"), r, result)
      shapes += is_in(&lessons[lesson].rows, result) && own_row(result);
    if (shapes == 0) continue;
    printf("%s", is_recorded ? "\n" : "");
    is_recorded = true;
    print_head(files[f]);
    printf("\n");
    if (is_sweep(stem)) {
      print_steps(files[f]);
    } else if (shapes <= MOST_SHAPES_IN_A_TABLE) {
      print_shapes(files[f], &lessons[lesson].rows, peers, peer_count);
    } else {
      printf("\n");
      print_classes(files[f], peers, peer_count);
    }
  }
  if (!is_recorded) printf("No run of `bench_gpu` with the level `full` is recorded yet.\n");
  return true;
}

void print_full(const json_t *file, const char *path) {
  const char *peers[MOST_PEERS];
  const int peer_count = peers_of(file, peers);
  const size_t shapes = json_array_size(json_object_get(file, "levels"));
  char stem[64];
  stem_of(path, stem, sizeof stem);
  printf("\n**The level `full`, %zu shapes:** ", shapes);
  print_head(file);
  printf("%s\n\n", peer_count > 0 ? " Geometric means of ratios." : "");
  print_classes(file, peers, peer_count);
  print_steps(file);
  if (shapes <= MOST_SHAPES_IN_A_TABLE) print_shapes(file, &all_rows, peers, peer_count);
  if (is_sweep(stem))
    printf("\n![Time over m](%s.svg)\n", stem);
  else
    printf(
        "\n![Share of the limit by shape](%s_share.svg)\n\n![Rate over operations for a byte, and the limits](%s_roofline.svg)\n\n"
        "![Times a peer's speed by shape](%s_ratio.svg)\n",
        stem, stem, stem);
}

/* --- Pictures */

static void print_title(const json_t *file, const char *what) { printf("# %s: %s\n", text(file, "gpu"), what); }

/* Number of the shape, its name, the share in percent, m. */
static void print_share(const json_t *file) {
  size_t r;
  const json_t *result;
  print_title(file, "share of the limit, cold");
  json_array_foreach(json_object_get(file, "levels"), r, result) {
    const json_t *row = own_row(result);
    if (row)
      printf("%zu \"%.0f x %.0f x %.0f\" %.4g %.0f\n", r, number(result, "m"), number(result, "n"), number(result, "k"),
             100 * number(result, "limit_us") / inside(row, "cold", "median_us"), number(result, "m"));
  }
}

/* For each peer a block: number of the shape, its name, the ratio. */
static void print_ratio(const json_t *file) {
  const char *peers[MOST_PEERS];
  const int peer_count = peers_of(file, peers);
  for (int p = 0; p < peer_count; p++) {
    size_t r;
    const json_t *result;
    print_title(file, peers[p]);
    json_array_foreach(json_object_get(file, "levels"), r, result) {
      double ratio = ratio_of(result, peers[p]);
      if (ratio > 0)
        printf("%zu \"%.0f x %.0f x %.0f\" %.4g\n", r, number(result, "m"), number(result, "n"), number(result, "k"), ratio);
    }
    printf("\n\n");
  }
}

static void print_roof_points(const json_t *file, const char *name, bool is_peer) {
  size_t r;
  const json_t *result;
  print_title(file, name);
  json_array_foreach(json_object_get(file, "levels"), r, result) {
    const json_t *row = is_peer ? row_of(json_object_get(result, "peers"), name) : own_row(result);
    if (row) printf("%.4g %.4g\n", number(result, "flops") / number(result, "bytes"), number(row, "gflops") * 1e-3);
  }
  printf("\n\n");
}

/* Operations for a byte and TFLOPS: of the limit, of the level, and of each peer, a block each. */
static void print_roofline(const json_t *file) {
  static const double least = 1, most = 1e4;
  const char *peers[MOST_PEERS];
  const int peer_count = peers_of(file, peers);
  const double flops = number(file, "tensor_flops"), bytes = number(file, "read_bytes_per_s"), ridge = flops / bytes;
  print_title(file, "limit");
  printf("%.4g %.4g\n%.4g %.4g\n%.4g %.4g\n\n\n", least, least * bytes * 1e-12, ridge, flops * 1e-12, most, flops * 1e-12);
  print_roof_points(file, level, false);
  for (int p = 0; p < peer_count; p++) print_roof_points(file, peers[p], true);
}

/* For each n and k that has steps a block: m, microseconds, those of the limit. */
static void print_sweep(const json_t *file) {
  size_t s, r;
  const json_t *step, *result;
  json_array_foreach(json_object_get(json_object_get(file, "summary"), "steps"), s, step) {
    if (strcmp(text(step, "level"), level) != 0) continue;
    char title[96];
    snprintf(title, sizeof title, "n = %.0f, k = %.0f, largest step %.1f %% at m = %.0f", number(step, "n"), number(step, "k"),
             100 * number(step, "largest"), number(step, "m"));
    print_title(file, title);
    json_array_foreach(json_object_get(file, "levels"), r, result) {
      const json_t *row = own_row(result);
      if (row && number(result, "n") == number(step, "n") && number(result, "k") == number(step, "k"))
        printf("%.0f %.4g %.4g\n", number(result, "m"), inside(row, "cold", "median_us"), number(result, "limit_us"));
    }
    printf("\n\n");
  }
}

bool print_full_plot(const json_t *file, const char *name) {
  static const struct {
    const char *name;
    void (*print)(const json_t *file);
  } plots[] = {{"share", print_share}, {"roofline", print_roofline}, {"ratio", print_ratio}, {"sweep", print_sweep}};
  for (size_t i = 0; i < sizeof plots / sizeof *plots; i++)
    if (strcmp(plots[i].name, name) == 0) return plots[i].print(file), true;
  return false;
}
