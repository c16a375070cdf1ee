/* Compares a Hopper GPU's FP8 tensor cores with ref/tensor_core.h, and its conversions to FP8 with the library's: random dots by
 * the thousand million, compared on the GPU by the definition itself; special cases; every FP32 number. Prints a page for docs/,
 * and writes golden vectors for machines that have no such GPU. Ends with 0 if nothing differs, and if definitions that are wrong
 * on purpose are found out.
 *
 *     check_tensor_core [--outputs N] [--seed N] [--golden FILE] [--json FILE] [--tree DIR] > docs/tensor_core.md
 *     check_tensor_core --compile-only [--tree DIR]
 *
 * FG_COMMIT in the environment is the commit that the page and the vectors name. */
#include "check_kernels.h"
#include "finegemm.h"
#include "fp8.h"
#include "special_dots.h"

#include <inttypes.h>
#include <jansson.h>
#include <nvrtc.h>
#include <omp.h>
#include <popt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { WIDTHS = MOST_COLS / 8, PAIRS = 4, PLACES = 2, VARIANTS = WIDTHS * PAIRS * PLACES, EXIT_USAGE = 2 };
enum { RIVALS = 6, RIVAL_COLS = 64, RIVAL_ROUNDS = 1, MODULES = VARIANTS + RIVALS * PAIRS };

static const struct {
  const char *name, *passage, *instead;
} rivals[RIVALS] = {
    {"12 fraction bits", "FG_MMA_BITS = 13", "FG_MMA_BITS = 12"},
    {"14 fraction bits", "FG_MMA_BITS = 13", "FG_MMA_BITS = 14"},
    {"zero operands raise the exponent too", "if (!is_zero && x.exponent", "if (x.exponent"},
    {"subnormal operands are normalised", "  operand.is_infinite = is_e5m2 &&",
     "  for (; operand.significand && !(operand.significand >> bits); operand.exponent--) operand.significand *= 2;\n"
     "  operand.is_infinite = is_e5m2 &&"},
    {"terms are cut down, not toward zero", "if (is_negative) term = -term;",
     "if (is_negative && is_finite && magnitude) term = -term - (shift > 31 || (uint32_t)term << shift != magnitude);"},
    {"what leaves is not cut", "if (top > FG_MMA_BITS) magnitude =", "if (top > 23) magnitude ="}};

static const char *const type_names[] = {"e4m3", "e5m2"};
static const char *const pair_names[PAIRS] = {"e4m3 e4m3", "e4m3 e5m2", "e5m2 e4m3", "e5m2 e5m2"};
static const char *const layout_names[LAYOUTS] = {"none", "128 bytes"};
static const char *const place_names[PLACES] = {"shared memory", "registers"};

enum { EXCEPTIONS = 16 };
struct conversion {
  uint64_t floats, exceptions, crossed;
  struct {
    uint32_t x;
    uint8_t chip, ours;
  } first[EXCEPTIONS];
};

/* What a special case gave: the same bits wherever in K its operands stand. */
struct verdict {
  uint32_t chip, defined;
  int differences; /* of the 32 places */
};

struct results {
  char device[256], driver[64], date[16], commit[64];
  int driver_version, nvrtc_version, sm_count, clock_mhz, memory_clock_mhz, threads;
  uint64_t seed;
  long long outputs; /* asked for */
  double compile_s, compare_s, convert_s;
  long spilled_bytes;
  struct findings *findings; /* [MODULES] */
  struct verdict *verdicts;  /* [special_count] */
  struct conversion conversions[2];
  int golden_dots, golden_differences;
};

static int pair_of(const struct variant *is) { return is->a_is_e5m2 * 2 + is->b_is_e5m2; }

/* --- compiling */

static struct module *compile_all(const char *tree, struct results *results) {
  struct module *modules = calloc(MODULES, sizeof *modules);
  struct sources right = read_sources(tree), wrong[RIVALS];
  if (!modules) fail("no memory");
  for (int i = 0; i < RIVALS; i++) {
    wrong[i] = right;
    wrong[i].definition = changed_definition(right.definition, rivals[i].passage, rivals[i].instead);
  }
  for (int i = 0; i < MODULES; i++) {
    int pair = i % PAIRS, cols = i < VARIANTS ? (i / (PAIRS * PLACES) + 1) * 8 : RIVAL_COLS;
    modules[i].variant = (struct variant){
        .cols = cols, .a_is_e5m2 = pair / 2, .b_is_e5m2 = pair % 2, .a_in_registers = i < VARIANTS && i / PAIRS % PLACES};
  }
  double begin = omp_get_wtime();
#pragma omp parallel for schedule(dynamic)
  for (int i = MODULES - 1; i >= 0; i--) compile_module(&modules[i], i < VARIANTS ? &right : &wrong[(i - VARIANTS) / PAIRS]);
  results->compile_s = omp_get_wtime() - begin;
  for (int i = 0; i < MODULES; i++) results->spilled_bytes += modules[i].spilled_bytes;
  fprintf(stderr, "%d modules compiled in %.1f s, %ld bytes spilled\n", MODULES, results->compile_s, results->spilled_bytes);
  for (int i = 0; i < RIVALS; i++) free(wrong[i].definition);
  free_sources(&right);
  return modules;
}

/* --- the device */

static int attribute(CUdevice device, CUdevice_attribute which) {
  int value = 0;
  must(cuDeviceGetAttribute(&value, which, device), "an attribute of the device");
  return value;
}

static void describe(CUdevice device, struct results *results) {
  must(cuDeviceGetName(results->device, sizeof results->device, device), "the name of the device");
  must(cuDriverGetVersion(&results->driver_version), "the driver's version");
  int major, minor;
  nvrtcVersion(&major, &minor);
  results->nvrtc_version = major * 1000 + minor * 10;
  results->sm_count = attribute(device, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
  results->clock_mhz = attribute(device, CU_DEVICE_ATTRIBUTE_CLOCK_RATE) / 1000;
  results->memory_clock_mhz = attribute(device, CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE) / 1000;
  results->threads = omp_get_max_threads();
  time_t now = time(NULL);
  struct tm utc;
  strftime(results->date, sizeof results->date, "%Y-%m-%d", gmtime_r(&now, &utc));
  snprintf(results->driver, sizeof results->driver, "?");
  FILE *file = fopen("/proc/driver/nvidia/version", "r"); /* "NVRM version: ... Kernel Module  580.1.2  ..." */
  char word[64];
  while (file && fscanf(file, "%63s", word) == 1)
    if (word[0] >= '1' && word[0] <= '9' && strchr(word, '.')) {
      snprintf(results->driver, sizeof results->driver, "%s", word);
      break;
    }
  if (file) fclose(file);
}

/* --- random dots */

static void launch(CUfunction function, unsigned blocks, unsigned threads, CUstream stream, void **arguments) {
  must(cuLaunchKernel(function, blocks, 1, 1, threads, 1, 1, 0, stream, arguments, NULL), "a launch");
}

/* Runs every variant, each about outputs / VARIANTS results, in two streams, so that one begins while another ends. */
static void compare_all(struct module *modules, struct results *results) {
  CUdeviceptr findings;
  CUstream streams[2];
  size_t bytes = MODULES * sizeof *results->findings;
  must(cuMemAlloc(&findings, bytes), "memory for what is found");
  must(cuMemsetD8(findings, 0, bytes), "clearing it");
  for (int i = 0; i < 2; i++) must(cuStreamCreate(&streams[i], CU_STREAM_NON_BLOCKING), "a stream");
  double begin = omp_get_wtime();
  for (int i = 0; i < MODULES; i++) {
    int resident = 0;
    double round = (double)TILE_ROWS * modules[i].variant.cols * COMBINATIONS;
    uint64_t rounds = i < VARIANTS ? (uint64_t)((double)results->outputs / VARIANTS / round) + 1 : RIVAL_ROUNDS,
             tiles = rounds * COMBINATIONS;
    uint64_t seed = random_bits(results->seed, (uint64_t)i);
    CUdeviceptr at = findings + (size_t)i * sizeof *results->findings;
    must(cuOccupancyMaxActiveBlocksPerMultiprocessor(&resident, modules[i].compare, 128, 0), "the occupancy");
    launch(modules[i].compare, (unsigned)(resident * results->sm_count), 128, streams[i % 2], (void *[]){&at, &seed, &tiles});
    if (i % (PAIRS * PLACES) == PAIRS * PLACES - 1) {
      must(cuStreamSynchronize(streams[i % 2]), "comparing");
      fprintf(stderr, "\rn = %d, %.0f s ", modules[i].variant.cols, omp_get_wtime() - begin);
    }
  }
  must(cuCtxSynchronize(), "comparing");
  results->compare_s = omp_get_wtime() - begin;
  fprintf(stderr, "\n");
  must(cuMemcpyDtoH(results->findings, findings, bytes), "fetching what was found");
  must(cuMemFree(findings), "freeing memory");
  for (int i = 0; i < 2; i++) must(cuStreamDestroy(streams[i]), "ending a stream");
}

/* --- dots one by one */

/* Modules 0 ... 3 are those of the narrowest tile, A in shared memory, one for each pair of types. */
static void run_dots(struct module *modules, struct dot *dots, int count) {
  CUdeviceptr at;
  size_t bytes = (size_t)count * sizeof *dots;
  must(cuMemAlloc(&at, bytes), "memory for dots");
  must(cuMemcpyHtoD(at, dots, bytes), "sending dots");
  for (int pair = 0; pair < PAIRS; pair++) launch(modules[pair].run_dots, (unsigned)count, 128, NULL, (void *[]){&at});
  must(cuMemcpyDtoH(dots, at, bytes), "fetching dots");
  must(cuMemFree(at), "freeing memory");
}

static uint32_t defined_bits(const struct dot *dot) {
  uint32_t c = dot->c;
  for (int k = 0; k < dot->k; k += FG_MMA_K)
    c = fg_mma_step_bits(dot->a_is_e5m2, dot->b_is_e5m2, dot->a + k, dot->b + k, c, NULL);
  return c;
}

static void run_specials(struct module *modules, struct results *results) {
  struct dot *dots = calloc((size_t)special_count * FG_MMA_K, sizeof *dots);
  if (!dots) fail("no memory");
  for (int i = 0; i < special_count * FG_MMA_K; i++) make_special(&specials[i / FG_MMA_K], i % FG_MMA_K, &dots[i]);
  run_dots(modules, dots, special_count * FG_MMA_K);
  for (int i = 0; i < special_count; i++) {
    const struct dot *first = &dots[i * FG_MMA_K];
    struct verdict *verdict = &results->verdicts[i];
    verdict->chip = first->d;
    verdict->defined = defined_bits(first);
    for (int place = 0; place < FG_MMA_K; place++) verdict->differences += first[place].d != verdict->defined;
  }
  free(dots);
}

static void print_hex(FILE *to, const uint8_t *code, int count) {
  for (int i = 0; i < count; i++) fprintf(to, "%02X", code[i]);
}

static void write_golden(struct module *modules, const char *path, struct results *results) {
  struct dot unused, *dots;
  char kind[KIND_BYTES];
  int count = special_count, samples = 0;
  uint64_t seed = random_bits(results->seed, MODULES);
  while (make_sample(seed, samples, &unused, kind)) samples++;
  count += samples;
  if (!(dots = calloc((size_t)count, sizeof *dots))) fail("no memory");
  for (int i = 0; i < special_count; i++) make_special(&specials[i], 0, &dots[i]);
  for (int i = 0; i < samples; i++) make_sample(seed, i, &dots[special_count + i], kind);
  run_dots(modules, dots, count);
  FILE *to = fopen(path, "w");
  if (!to) fail("%s cannot be written", path);
  fprintf(
      to,
      "# Dots as the tensor cores of a Hopper GPU gave them: %s, driver %s, CUDA %d.%d, %s. Made by tests/hardware, replayed by the tests:\n"
      "# FG_COMMIT=%s check_tensor_core --tree . --outputs %lld --seed %" PRIu64 " --golden FILE\n"
      "# A line is one dot, of 32 codes or more, in steps of 32 by wgmma.mma_async.m64n8k32 chained through the accumulator:\n"
      "# A_TYPE B_TYPE KIND C_BITS A_HEX B_HEX D_BITS\n"
      "# KIND: OPERANDS/ACCUMULATOR, kinds of tests/hardware/random_operands.h, or a special case of docs/tensor_core.md, - for spaces.\n",
      results->device, results->driver, results->driver_version / 1000, results->driver_version % 1000 / 10, results->date,
      results->commit, results->outputs, results->seed);
  for (int i = 0; i < count; i++) {
    const struct dot *dot = &dots[i];
    if (i < special_count)
      snprintf(kind, sizeof kind, "%s", specials[i].name);
    else
      make_sample(seed, i - special_count, &unused, kind);
    for (char *space; (space = strchr(kind, ' '));) *space = '-';
    fprintf(to, "%s %s %s %08" PRIX32 " ", type_names[dot->a_is_e5m2], type_names[dot->b_is_e5m2], kind, dot->c);
    print_hex(to, dot->a, dot->k);
    fprintf(to, " ");
    print_hex(to, dot->b, dot->k);
    fprintf(to, " %08" PRIX32 "\n", dot->d);
    results->golden_differences += dot->d != defined_bits(dot);
  }
  results->golden_dots = count;
  if (ferror(to) || fclose(to) != 0) fail("%s cannot be written", path);
  free(dots);
}

/* --- conversions */

/* Codes that the GPU made of `count` floats from the bits `first` on, against the library's. */
static void compare_codes(fg_type type, uint32_t first, int count, const uint8_t *chip, struct conversion *conversion) {
  enum { PART = 1 << 14 };
#pragma omp parallel for schedule(static)
  for (int begin = 0; begin < count; begin += PART) {
    float x[PART];
    uint8_t ours[PART];
    for (int i = 0; i < PART; i++) {
      uint32_t bits = first + (uint32_t)(begin + i);
      memcpy(&x[i], &bits, sizeof bits);
    }
    fg_from_float(type, x, ours, PART);
    if (memcmp(ours, chip + begin, PART) == 0) continue;
#pragma omp critical
    for (int i = 0; i < PART; i++) {
      if (ours[i] == chip[begin + i]) continue;
      if (conversion->exceptions < EXCEPTIONS) {
        conversion->first[conversion->exceptions].x = first + (uint32_t)(begin + i);
        conversion->first[conversion->exceptions].chip = chip[begin + i];
        conversion->first[conversion->exceptions].ours = ours[i];
      }
      conversion->exceptions++;
    }
  }
}

static void convert_all(const struct module *module, struct results *results) {
  enum { CHUNK = 1 << 28, CHUNKS = 16 };
  CUdeviceptr codes[2], crossed;
  void *host[2];
  for (int i = 0; i < 2; i++) {
    must(cuMemAlloc(&codes[i], CHUNK), "memory for codes");
    must(cuMemAllocHost(&host[i], CHUNK), "memory for codes");
  }
  must(cuMemAlloc(&crossed, 2 * sizeof(uint64_t)), "memory for counts");
  must(cuMemsetD8(crossed, 0, 2 * sizeof(uint64_t)), "clearing it");
  double begin = omp_get_wtime();
  for (uint32_t chunk = 0; chunk < CHUNKS; chunk++) {
    uint32_t first = chunk * CHUNK, count = CHUNK;
    launch(module->encode, CHUNK / 256, 256, NULL, (void *[]){&first, &count, &codes[0], &codes[1], &crossed});
    for (int i = 0; i < 2; i++) {
      must(cuMemcpyDtoH(host[i], codes[i], CHUNK), "fetching codes");
      compare_codes(i ? FG_E5M2 : FG_E4M3, first, CHUNK, host[i], &results->conversions[i]);
    }
  }
  results->convert_s = omp_get_wtime() - begin;
  uint64_t count[2];
  must(cuMemcpyDtoH(count, crossed, sizeof count), "fetching counts");
  for (int i = 0; i < 2; i++) {
    results->conversions[i].crossed = count[i];
    results->conversions[i].floats = (uint64_t)CHUNK * CHUNKS;
    must(cuMemFree(codes[i]), "freeing memory");
    must(cuMemFreeHost(host[i]), "freeing memory");
  }
  must(cuMemFree(crossed), "freeing memory");
}

/* --- telling */

/* The ways to divide the comparisons; each has its rows. */
enum division { BY_OPERANDS, BY_ACCUMULATOR, BY_CHAIN, BY_TYPES, BY_PLACE, BY_LAYOUT, BY_WIDTH, DIVISIONS };
static const char *const division_names[DIVISIONS] = {"operands", "accumulator", "steps", "types of A and B",
                                                      "A from",   "swizzle",     "n"};
static const int division_rows[DIVISIONS] = {OPERAND_KINDS, ACCUMULATOR_KINDS, CHAINS, PAIRS, PLACES, LAYOUTS, WIDTHS};

static int row_in(enum division division, const struct variant *variant, struct combination is) {
  const int rows[DIVISIONS] = {(int)is.operands,        (int)is.accumulator, (int)is.chain,        pair_of(variant),
                               variant->a_in_registers, (int)is.layout,      variant->cols / 8 - 1};
  return rows[division];
}

static const char *row_name(enum division division, int row, char name[16]) {
  const char *const *const names[DIVISIONS] = {operand_names, accumulator_names, NULL, pair_names,
                                               place_names,   layout_names,      NULL};
  if (names[division]) return names[division][row];
  snprintf(name, 16, "%d", division == BY_CHAIN ? chain_steps((enum chains)row) : (row + 1) * 8);
  return name;
}

struct sum {
  struct count count;
  uint64_t steps, tiles;
};

static void add(struct sum *sum, const struct count *count, struct combination is, int cols) {
  sum->count.compared += count->compared;
  sum->count.numbers += count->numbers;
  sum->count.differences += count->differences;
  sum->steps += count->compared * (uint64_t)chain_steps(is.chain);
  sum->tiles += count->compared / (uint64_t)(TILE_ROWS * cols);
}

/* The modules first ... last - 1, or of these what stands in one row of one or two divisions. */
static struct sum sum_up(const struct module *modules, const struct findings *findings, int first, int last,
                         enum division division, int row, enum division other, int other_row) {
  struct sum sum = {{0, 0, 0}, 0, 0};
  for (int i = first; i < last; i++)
    for (int c = 0; c < COMBINATIONS; c++) {
      const struct variant *variant = &modules[i].variant;
      struct combination is = combination_of(c);
      if ((division == DIVISIONS || row_in(division, variant, is) == row) &&
          (other == DIVISIONS || row_in(other, variant, is) == other_row))
        add(&sum, &findings[i].count[c], is, variant->cols);
    }
  return sum;
}

static struct sum sum_of(const struct module *modules, const struct findings *findings, int first, int last) {
  return sum_up(modules, findings, first, last, DIVISIONS, 0, DIVISIONS, 0);
}

static struct sum sum_of_rival(const struct module *modules, const struct results *results, int rival) {
  int first = VARIANTS + rival * PAIRS;
  return sum_of(modules, results->findings, first, first + PAIRS);
}

static void report_differences(const struct module *modules, const struct findings *findings) {
  for (int i = 0; i < VARIANTS; i++)
    for (uint32_t r = 0; r < findings[i].reported && r < MOST_REPORTED; r++) {
      const struct difference *is = &findings[i].difference[r];
      struct combination of = combination_of(is->combination);
      const struct variant *variant = &modules[i].variant;
      fprintf(stderr,
              "n %d, %s, A from %s, %s, c %s, %d steps, swizzle %s, row %d, column %d: c %08" PRIX32 " chip %08" PRIX32
              " definition %08" PRIX32 "\n  a ",
              variant->cols, pair_names[pair_of(variant)], place_names[variant->a_in_registers], operand_names[of.operands],
              accumulator_names[of.accumulator], chain_steps(of.chain), layout_names[of.layout], is->row, is->col, is->c,
              is->chip, is->defined);
      print_hex(stderr, is->a, ROW_CODES);
      fprintf(stderr, "\n  b ");
      print_hex(stderr, is->b, ROW_CODES);
      fprintf(stderr, "\n");
    }
}

static void print_division(const struct module *modules, const struct results *results, enum division division) {
  char name[16];
  printf("\n| %s | dots | steps | finite, not 0 | differences |\n|---|--:|--:|--:|--:|\n", division_names[division]);
  for (int row = 0; row < division_rows[division]; row++) {
    struct sum sum = sum_up(modules, results->findings, 0, VARIANTS, division, row, DIVISIONS, 0);
    printf("| %s | %" PRIu64 " | %" PRIu64 " | %.1f %% | %" PRIu64 " |\n", row_name(division, row, name), sum.count.compared,
           sum.steps, 100 * (double)sum.count.numbers / (double)sum.count.compared, sum.count.differences);
  }
}

static void print_operands_by_types(const struct module *modules, const struct results *results) {
  printf("\n| dots: differences |");
  for (int pair = 0; pair < PAIRS; pair++) printf(" %s |", pair_names[pair]);
  printf("\n|---|--:|--:|--:|--:|\n");
  for (int row = 0; row < OPERAND_KINDS; row++) {
    printf("| %s |", operand_names[row]);
    for (int pair = 0; pair < PAIRS; pair++) {
      struct sum sum = sum_up(modules, results->findings, 0, VARIANTS, BY_OPERANDS, row, BY_TYPES, pair);
      printf(" %" PRIu64 ": %" PRIu64 " |", sum.count.compared, sum.count.differences);
    }
    printf("\n");
  }
}

static void print_rivals(const struct module *modules, const struct results *results) {
  printf("\n| definition | dots | differences | share |\n|---|--:|--:|--:|\n");
  for (int i = 0; i < RIVALS; i++) {
    struct count count = sum_of_rival(modules, results, i).count;
    printf("| %s | %" PRIu64 " | %" PRIu64 " | %.1f %% |\n", rivals[i].name, count.compared, count.differences,
           100 * (double)count.differences / (double)count.compared);
  }
}

static void print_specials(const struct results *results) {
  printf("\n| case | A B | pairs of codes | c | d, GPU | d, definition | places that differ |\n|---|---|---|---|---|---|--:|\n");
  for (int i = 0; i < special_count; i++) {
    const struct special *special = &specials[i];
    const struct verdict *verdict = &results->verdicts[i];
    const char *between = " ";
    printf("| %s | %s %s |", special->name, type_names[special->a_is_e5m2], type_names[special->b_is_e5m2]);
    for (int p = 0; p < MOST_PAIRS && special->pair[p].count; p++, between = ", ") {
      printf("%s%02X %02X", between, (unsigned)special->pair[p].a, (unsigned)special->pair[p].b);
      if (special->pair[p].count > 1) printf(" (%d)", special->pair[p].count);
    }
    printf(" | %08" PRIX32 " | %08" PRIX32 " | %08" PRIX32 " | %d |\n", special->c, verdict->chip, verdict->defined,
           verdict->differences);
  }
}

static void print_conversions(const struct results *results) {
  printf("\n| instruction | floats | exceptions | halves that disagree |\n|---|--:|--:|--:|\n");
  for (int i = 0; i < 2; i++)
    printf("| `cvt.rn.satfinite.%sx2.f32` | %" PRIu64 " | %" PRIu64 " | %" PRIu64 " |\n", type_names[i],
           results->conversions[i].floats, results->conversions[i].exceptions, results->conversions[i].crossed);
  for (int i = 0; i < 2; i++) {
    const struct conversion *conversion = &results->conversions[i];
    if (conversion->exceptions) printf("\n| float | %s, GPU | %s, library |\n|---|---|---|\n", type_names[i], type_names[i]);
    for (uint64_t e = 0; e < conversion->exceptions && e < EXCEPTIONS; e++)
      printf("| %08" PRIX32 " | %02X | %02X |\n", conversion->first[e].x, (unsigned)conversion->first[e].chip,
             (unsigned)conversion->first[e].ours);
  }
}

static void print_page(const struct module *modules, const struct results *results) {
  struct sum all = sum_of(modules, results->findings, 0, VARIANTS);
  printf(
      "# The tensor core's definition, checked\n\n"
      "`ref/tensor_core.h` defines what a step of a Hopper tensor core does with FP8 ([numerics](numerics.md) has it in words).\n"
      "Here this very text was compiled for a GPU and compared there, bit for bit, with what `wgmma` gave.\n\n"
      "**%" PRIu64 " dots, %" PRIu64 " steps of 32 products: %" PRIu64 " differences.**\n\n"
      "The dots of a tile are not independent, for 64 n of them share 64 + n random rows; the %" PRIu64 " tiles are.\n\n"
      "The page is what the program of `tests/hardware` printed, which is built where CMake finds the CUDA Toolkit:\n\n"
      "    check_tensor_core --outputs %lld --seed %" PRIu64 " > docs/tensor_core.md\n\n",
      all.count.compared, all.steps, all.count.differences, all.tiles, results->outputs, results->seed);
  printf("| | |\n|---|---|\n| date, commit | %s, %s |\n| GPU | %s, %d multiprocessors, at most %d MHz, memory %d MHz |\n"
         "| driver | %s, for CUDA %d.%d |\n| run-time compiler | NVRTC %d.%d, `-arch=sm_90a` |\n"
         "| compiling | %d modules in %.1f s with %d threads; %ld bytes spilled |\n"
         "| comparing dots | %.1f s, %.3g steps a second |\n| converting and comparing every float | %.1f s |\n",
         results->date, results->commit, results->device, results->sm_count, results->clock_mhz, results->memory_clock_mhz,
         results->driver, results->driver_version / 1000, results->driver_version % 1000 / 10, results->nvrtc_version / 1000,
         results->nvrtc_version % 1000 / 10, MODULES, results->compile_s, results->threads, results->spilled_bytes,
         results->compare_s, (double)all.steps / results->compare_s, results->convert_s);
  printf(
      "\n## Random dots\n\n"
      "A tile is A [64, 128] by B [n, 128]. A thread block draws it, runs it, and computes each of the 64 n results once more, by\n"
      "the definition, from the same shared memory. There are 256 variants of the instruction, each compiled for itself: 32 widths\n"
      "n, four pairs of types, A from shared memory or from registers. Each meets every combination of operands, accumulator,\n"
      "number of steps and swizzle equally often. Four steps are the four blocks of 32 in a row of 128; 16 steps are all pairs of\n"
      "a block of A's row and one of B's; they are all in flight before the first result is read. The numbers are splitmix64,\n"
      "counted from the seed; `tests/hardware/random_operands.h` says what each kind of operand and of accumulator is. Where\n"
      "there is no accumulator (none), scale-d is 0, and the registers hold NaN.\n");
  print_operands_by_types(modules, results);
  for (int division = 0; division < DIVISIONS; division++) print_division(modules, results, (enum division)division);
  printf("\n## Definitions that are wrong on purpose\n\n"
         "The same comparison, n = %d, with one passage of the definition changed: it would have been found out.\n",
         RIVAL_COLS);
  print_rivals(modules, results);
  printf(
      "\n## Special cases\n\n"
      "Each case ran %d times, its pairs of codes moved on through all places of K, the rest being +0 times +0. In parentheses:\n"
      "how often a pair stands there. In e4m3 38 is 1, 08 is 2^-6 and the smallest normal number, 01 is 2^-9, 7E is 448; in e5m2\n"
      "3C is 1, 01 is 2^-16, 7B is 57344, 7C is infinity.\n",
      FG_MMA_K);
  print_specials(results);
  printf(
      "\n## Conversions to FP8\n\n"
      "Every FP32 number, as the first operand and as the second, beside a 1. The first operand's code is the upper half of the\n"
      "result, the second's the lower one. The library's are those of `fg_convert()`.\n");
  print_conversions(results);
  if (results->golden_dots)
    printf(
        "\n## Golden vectors\n\n"
        "`tests/golden/tensor_core.txt` holds %d dots with this GPU's results, which the tests replay on every machine; %d of them\n"
        "differ from the definition.\n",
        results->golden_dots, results->golden_differences);
}

static json_t *sum_as_json(const char *name, struct sum sum) {
  return json_pack("{s:s, s:I, s:I, s:I, s:I}", "name", name, "dots", (json_int_t)sum.count.compared, "steps",
                   (json_int_t)sum.steps, "finite_not_0", (json_int_t)sum.count.numbers, "differences",
                   (json_int_t)sum.count.differences);
}

static json_t *divisions_as_json(const struct module *modules, const struct results *results) {
  json_t *divisions = json_object();
  for (int division = 0; division < DIVISIONS; division++) {
    json_t *rows = json_array();
    char name[16];
    for (int row = 0; row < division_rows[division]; row++)
      json_array_append_new(
          rows, sum_as_json(row_name((enum division)division, row, name),
                            sum_up(modules, results->findings, 0, VARIANTS, (enum division)division, row, DIVISIONS, 0)));
    json_object_set_new(divisions, division_names[division], rows);
  }
  return divisions;
}

static void write_json(const char *path, const struct module *modules, const struct results *results) {
  json_t *special_rows = json_array(), *rival_rows = json_array(), *conversion_rows = json_array();
  char chip[16], defined[16];
  for (int i = 0; i < special_count; i++) {
    snprintf(chip, sizeof chip, "%08" PRIX32, results->verdicts[i].chip);
    snprintf(defined, sizeof defined, "%08" PRIX32, results->verdicts[i].defined);
    json_array_append_new(special_rows, json_pack("{s:s, s:s, s:s, s:i}", "name", specials[i].name, "gpu", chip, "definition",
                                                  defined, "differences", results->verdicts[i].differences));
  }
  for (int i = 0; i < RIVALS; i++)
    json_array_append_new(rival_rows, sum_as_json(rivals[i].name, sum_of_rival(modules, results, i)));
  for (int i = 0; i < 2; i++) {
    const struct conversion *is = &results->conversions[i];
    json_array_append_new(conversion_rows,
                          json_pack("{s:s, s:I, s:I, s:I}", "type", type_names[i], "floats", (json_int_t)is->floats, "exceptions",
                                    (json_int_t)is->exceptions, "halves_that_disagree", (json_int_t)is->crossed));
  }
  json_t *all = json_pack(
      "{s:s, s:s, s:s, s:s, s:s, s:i, s:i, s:i, s:i, s:i, s:I, s:I, s:f, s:f, s:f, s:I, s:o, s:o, s:o, s:o, s:o, s:i, s:i}",
      "version", fg_version(), "commit", results->commit, "date", results->date, "device", results->device, "driver",
      results->driver, "cuda_of_driver", results->driver_version, "nvrtc", results->nvrtc_version, "multiprocessors",
      results->sm_count, "clock_mhz", results->clock_mhz, "memory_clock_mhz", results->memory_clock_mhz, "outputs_asked",
      (json_int_t)results->outputs, "seed", (json_int_t)results->seed, "compile_s", results->compile_s, "compare_s",
      results->compare_s, "convert_s", results->convert_s, "spilled_bytes", (json_int_t)results->spilled_bytes, "all",
      sum_as_json("all", sum_of(modules, results->findings, 0, VARIANTS)), "divisions", divisions_as_json(modules, results),
      "rivals", rival_rows, "specials", special_rows, "conversions", conversion_rows, "golden_dots", results->golden_dots,
      "golden_differences", results->golden_differences);
  if (!all || json_dump_file(all, path, JSON_INDENT(2)) != 0) fail("%s cannot be written", path);
  json_decref(all);
}

/* Nothing differs, nothing was left out, and every rival is found out. */
static bool is_proven(const struct module *modules, const struct results *results) {
  struct sum all = sum_of(modules, results->findings, 0, VARIANTS);
  bool good = all.count.differences == 0 && all.count.compared >= (uint64_t)results->outputs && results->golden_differences == 0;
  for (int i = 0; i < special_count; i++) good = good && results->verdicts[i].differences == 0;
  for (int i = 0; i < 2; i++) good = good && results->conversions[i].exceptions == 0 && results->conversions[i].crossed == 0;
  for (int i = 0; i < RIVALS; i++) good = good && sum_of_rival(modules, results, i).count.differences > 0;
  return good;
}

int main(int argc, const char **argv) {
  struct results results = {.seed = 1, .outputs = 20000000000};
  const char *tree = FG_SOURCE_DIR, *json_path = NULL, *golden_path = NULL;
  long long seed = 1;
  int compile_only = 0;
  const struct poptOption options[] = {
      {"outputs", 'n', POPT_ARG_LONGLONG, &results.outputs, 0, "compare at least so many random dots (20000000000)", "N"},
      {"seed", 's', POPT_ARG_LONGLONG, &seed, 0, "of everything random (1)", "N"},
      {"golden", 'g', POPT_ARG_STRING, &golden_path, 0, "write golden vectors", "FILE"},
      {"json", 'j', POPT_ARG_STRING, &json_path, 0, "write the counts as JSON too", "FILE"},
      {"tree", 't', POPT_ARG_STRING, &tree, 0, "where the project is, whose kernels are compiled (where this was built)", "DIR"},
      {"compile-only", 'c', POPT_ARG_NONE, &compile_only, 0, "compile all kernels, which needs no GPU, and end", NULL},
      POPT_AUTOHELP POPT_TABLEEND};
  poptContext arguments = poptGetContext("check_tensor_core", argc, argv, options, 0);
  int wrong = poptGetNextOpt(arguments);
  if (wrong < -1 || poptPeekArg(arguments) || results.outputs < 1 || seed < 0) {
    fprintf(stderr, "check_tensor_core: %s\n",
            wrong < -1 ? poptStrerror(wrong) : "takes options only, --outputs from 1, --seed from 0; see --help");
    return EXIT_USAGE;
  }
  const char *commit = getenv("FG_COMMIT"); /* of the sources, which a program cannot know */
  snprintf(results.commit, sizeof results.commit, "%s", commit ? commit : "?");
  results.seed = (uint64_t)seed;
  results.findings = calloc(MODULES, sizeof *results.findings);
  results.verdicts = calloc((size_t)special_count, sizeof *results.verdicts);
  if (!results.findings || !results.verdicts) fail("no memory");

  CUdevice device = 0;
  CUcontext context;
  if (!compile_only) {
    must(cuInit(0), "the driver");
    must(cuDeviceGet(&device, 0), "a GPU");
    must(cuDevicePrimaryCtxRetain(&context, device), "a context");
    must(cuCtxSetCurrent(context), "a context");
    describe(device, &results);
    if (attribute(device, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR) != 9) fail("%s is not a Hopper GPU", results.device);
  }
  struct module *modules = compile_all(tree, &results);
  bool good = results.spilled_bytes == 0;
  if (!compile_only) {
    for (int i = 0; i < MODULES; i++) load_module(&modules[i]);
    run_specials(modules, &results);
    if (golden_path) write_golden(modules, golden_path, &results);
    convert_all(&modules[0], &results);
    compare_all(modules, &results);
    report_differences(modules, results.findings);
    print_page(modules, &results);
    if (json_path) write_json(json_path, modules, &results);
    good = is_proven(modules, &results);
  }
  for (int i = 0; i < MODULES; i++) unload_module(&modules[i]);
  if (!compile_only) must(cuDevicePrimaryCtxRelease(device), "the context");
  free(modules);
  free(results.findings);
  free(results.verdicts);
  poptFreeContext(arguments);
  return good && fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
