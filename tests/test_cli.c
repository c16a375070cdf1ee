/* The program as a user has it, on a machine without a GPU: command lines, their exit codes, what they print, and what they leave in a folder of their own.
 *
 * Each test runs in a process and a folder of its own, with the files that make_files() writes byte by byte. */
#define _XOPEN_SOURCE 700
#include "finegemm.h"
#include "finegemm_kernels.h"
#include "tensor_file.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { M = 37, N = 150, K = 300, KB = 3 };

/* What a test gets stays until its process ends, and hangs on this list. */
static void *keep(void *thing) {
  static struct kept {
    struct kept *next;
    void *thing;
  } * all;
  struct kept *added = malloc(sizeof *added);
  *added = (struct kept){all, thing};
  all = added;
  return thing;
}

/* --- Files. */

static uint64_t random_state = 1;

static uint64_t next_bits(void) {
  random_state = random_state * 6364136223846793005u + 1442695040888963407u;
  return random_state >> 33;
}

static float next_float(void) { return (float)(int64_t)(next_bits() & 0xFFFFF) * 0x1p-18f - 2; }

static void write_bytes(const char *path, const void *bytes, size_t count, bool more) {
  FILE *file = fopen(path, more ? "ab" : "wb");
  cr_assert(file && fwrite(bytes, 1, count, file) == count && fclose(file) == 0, "%s", path);
}

/* `shape` as in "37, 300". */
static void write_npy(const char *path, const char *descr, bool fortran, const char *shape, const void *data, size_t bytes) {
  char header[128];
  memcpy(header, "\x93NUMPY\x01\x00\x76\x00", 10);
  memset(header + 10, ' ', 118);
  int length = snprintf(header + 10, 118, "{'descr': '%s', 'fortran_order': %s, 'shape': (%s), }", descr,
                        fortran ? "True" : "False", shape);
  header[10 + length] = ' ';
  header[127] = '\n';
  write_bytes(path, header, 128, false);
  write_bytes(path, data, bytes, true);
}

struct piece {
  const char *name, *dtype, *shape;
  const void *data; /* NULL: zeros that take no room */
  size_t bytes;
};

/* The header is padded so that the data begins at a multiple of 8, plus `shift` bytes. */
static void write_safetensors(const char *path, const struct piece *pieces, int count, int shift) {
  char header[4096] = "{";
  size_t used = 1, offset = 0;
  for (int i = 0; i < count; i++) {
    used += (size_t)snprintf(header + used, sizeof header - used,
                             "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[%s],\"data_offsets\":[%zu,%zu]}", i ? "," : "",
                             pieces[i].name, pieces[i].dtype, pieces[i].shape, offset, offset + pieces[i].bytes);
    offset += pieces[i].bytes;
  }
  header[used++] = '}';
  while (used % 8 != (size_t)shift) header[used++] = ' ';
  uint64_t length = used;
  write_bytes(path, &length, 8, false);
  write_bytes(path, header, used, true);
  for (int i = 0; i < count; i++) {
    if (pieces[i].data) write_bytes(path, pieces[i].data, pieces[i].bytes, true);
    struct stat status;
    if (!pieces[i].data) cr_assert(stat(path, &status) == 0 && truncate(path, status.st_size + (off_t)pieces[i].bytes) == 0);
  }
}

static float x[M * K], w[N * K], c[M * N];
static uint8_t x8[M * K], w8[N * K];
static float x_scale[M * KB], w_scale[N * KB]; /* as many as any scaling wants */

static void make_files(void) {
  static float transposed[N * K], spoilt[M * K];
  for (int i = 0; i < M * K; i++) x[i] = next_float();
  for (int i = 0; i < N * K; i++) w[i] = next_float();
  for (int i = 0; i < M * N; i++) c[i] = next_float();
  for (int i = 0; i < M * K; i++) x8[i] = (uint8_t)((next_bits() & 0x80) | next_bits() % 0x7C); /* finite in both types */
  for (int i = 0; i < N * K; i++) w8[i] = (uint8_t)((next_bits() & 0x80) | next_bits() % 0x7C);
  for (int i = 0; i < M * KB; i++) x_scale[i] = 0.01f * (float)(1 + next_bits() % 100);
  for (int i = 0; i < N * KB; i++) w_scale[i] = 0.01f * (float)(1 + next_bits() % 100);
  for (int i = 0; i < N; i++)
    for (int l = 0; l < K; l++) transposed[l * N + i] = w[i * K + l];
  memcpy(spoilt, x, sizeof x);
  spoilt[5 * K + 7] = NAN;
  write_npy("x.npy", "<f4", false, "37, 300", x, sizeof x);
  write_npy("w.npy", "<f4", false, "150, 300", w, sizeof w);
  write_npy("wf.npy", "<f4", true, "150, 300", transposed, sizeof transposed);
  write_npy("wt.npy", "<f4", false, "300, 150", transposed, sizeof transposed);
  write_npy("c.npy", "<f4", false, "37, 150", c, sizeof c);
  write_npy("nan.npy", "<f4", false, "37, 300", spoilt, sizeof spoilt);
  write_npy("ints.npy", "<i4", false, "37, 300", x, sizeof x);
  write_npy("vector.npy", "<f4", false, "300,", x, K * sizeof *x);
  write_npy("short.npy", "<f4", false, "37, 300", x, 100);
  write_npy("empty.npy", "<f4", false, "0, 300", x, 0);
  write_npy("tall.npy", "<f4", false, "1099511627776, 0", x, 0);
  write_npy("tall2.npy", "<f4", false, "4398046511104, 0", x, 0);
  const struct piece fp8[] = {
      {"a", "F8_E4M3", "37,300", x8, sizeof x8},        {"a_scale_inv", "F32", "37,3", x_scale, sizeof x_scale},
      {"bare", "F8_E4M3", "150,300", w8, sizeof w8},    {"half", "F8_E4M3", "150,300", w8, sizeof w8},
      {"half_scale_inv", "F16", "2,3", w_scale, 12},    {"odd", "F8_E4M3", "150,300", w8, sizeof w8},
      {"odd_scale_inv", "F32", "3,2", w_scale, 24},     {"w.weight", "F8_E4M3", "150,300", w8, sizeof w8},
      {"w.weight_scale_inv", "F32", "2,3", w_scale, 24}};
  write_safetensors("fp8.safetensors", fp8, sizeof fp8 / sizeof *fp8, 0);
  write_safetensors("one.safetensors", &fp8[7], 2, 0);
  float spoilt_scale[6] = {1, 1, 1, 1, NAN, 1};
  const struct piece nan_scale[] = {{"w", "F8_E4M3", "150,300", w8, sizeof w8}, {"w_scale_inv", "F32", "2,3", spoilt_scale, 24}};
  write_safetensors("nan_scale.safetensors", nan_scale, 2, 0);
  const struct piece floats[] = {{"w", "F32", "150,300", w, sizeof w}};
  write_safetensors("shifted.safetensors", floats, 1, 1);
  write_safetensors("none.safetensors", NULL, 0, 0);
  write_bytes("garbage.safetensors", "this is no header", 17, false);
  cr_assert(mkdir("folder.npy", 0700) == 0);
}

/* --- Running. */

static char folder[512], prints[512], cache[540]; /* where the test works; where stdout and stderr go; where kernels are kept */

static void enter(void) {
  const char *temporary = getenv("TMPDIR") ? getenv("TMPDIR") : P_tmpdir;
  snprintf(folder, sizeof folder, "%s/test_cli_XXXXXX", temporary);
  snprintf(prints, sizeof prints, "%s/test_cli_XXXXXX", temporary);
  cr_assert(mkdtemp(folder) && mkdtemp(prints) && chdir(folder) == 0);
  snprintf(cache, sizeof cache, "%s/cache", folder);
  cr_assert(setenv("FINEGEMM", FINEGEMM_PROGRAM, 1) == 0 && setenv("FG_CACHE_DIR", cache, 1) == 0);
  cr_assert(setenv("FG_CUDA_DRIVER", "/nowhere/libcuda.so", 1) == 0);
  cr_assert(unsetenv("FG_CACHE_PATH") == 0 && unsetenv("FG_CACHE_BYTES") == 0 && unsetenv("FG_KERNEL_DIR") == 0);
  make_files();
}

static void leave_folder(void) {
  char command[1100];
  snprintf(command, sizeof command, "cd / && rm -rf '%s' '%s'", folder, prints);
  cr_assert(system(command) == 0);
}

static char *read_file(const char *path) {
  FILE *file = fopen(path, "rb");
  cr_assert(file, "%s", path);
  size_t used = 0, room = 1 << 16;
  char *bytes = malloc(room);
  for (size_t got; (got = fread(bytes + used, 1, room - used - 1, file)) > 0;)
    if ((used += got) + 1 == room) bytes = realloc(bytes, room *= 2);
  fclose(file);
  bytes[used] = '\0';
  return keep(bytes);
}

struct answer {
  int code; /* minus the signal, if one ended it */
  char *out, *err;
};

/* A line for the shell; "finegemm" at its beginning, or after a ';', is the program. */
static struct answer run(const char *line) {
  char command[4096], path[600];
  snprintf(command, sizeof command, "finegemm() { \"$FINEGEMM\" \"$@\"; }; { %s\n} >'%s/out' 2>'%s/err' </dev/null", line, prints,
           prints);
  int status = system(command);
  snprintf(path, sizeof path, "%s/out", prints);
  char *out = read_file(path);
  snprintf(path, sizeof path, "%s/err", prints);
  return (struct answer){WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status), out, read_file(path)};
}

/* It must succeed and say nothing on stderr. */
static char *run_well(const char *line) {
  struct answer answer = run(line);
  cr_assert(answer.code == 0 && *answer.err == '\0', "%s: exit code %d: %s", line, answer.code, answer.err);
  return answer.out;
}

static json_t *json_from(const char *line, int code) {
  struct answer answer = run(line);
  cr_assert(answer.code == code && *answer.err == '\0', "%s: exit code %d: %s", line, answer.code, answer.err);
  json_error_t error;
  json_t *json = keep(json_loads(answer.out, JSON_REJECT_DUPLICATES, &error));
  cr_assert(json_is_object(json), "%s: %s in %s", line, error.text, answer.out);
  return json;
}

static const char *string_in(json_t *json, const char *key) {
  json_t *value = json_object_get(json, key);
  cr_assert(json_is_string(value), "%s", key);
  return json_string_value(value);
}

static int64_t integer_in(json_t *json, const char *key) {
  json_t *value = json_object_get(json, key);
  cr_assert(json_is_integer(value), "%s", key);
  return json_integer_value(value);
}

static double number_in(json_t *json, const char *key) {
  json_t *value = json_object_get(json, key);
  cr_assert(json_is_number(value), "%s", key);
  return json_number_value(value);
}

/* Of the folder's names, sizes and bytes. */
static uint64_t hash_of_folder(void) {
  struct dirent **entries;
  int count = scandir(".", &entries, NULL, alphasort);
  keep(entries);
  uint64_t hash = 14695981039346656037u;
  for (int i = 0; i < count; i++) {
    const char *name = ((struct dirent *)keep(entries[i]))->d_name;
    struct stat status;
    cr_assert(stat(name, &status) == 0);
    for (const char *letter = name; *letter; letter++) hash = (hash ^ (unsigned char)*letter) * 1099511628211u;
    if (S_ISDIR(status.st_mode)) continue;
    FILE *file = fopen(name, "rb");
    for (int byte; (byte = fgetc(file)) != EOF;) hash = (hash ^ (unsigned char)byte) * 1099511628211u;
    fclose(file);
  }
  return hash;
}

static const struct tensor *load(const char *path, const char *name) {
  char error[TENSOR_ERROR_BYTES];
  struct tensor_file *file = tensor_file_open(path, error);
  cr_assert(keep(file), "%s", error);
  const struct tensor *tensor = tensor_file_find(file, name);
  cr_assert(tensor, "%s:%s", path, name);
  return tensor;
}

TestSuite(cli, .init = enter, .fini = leave_folder);

/* --- What must fail, and how; whatever it is, no file appears, changes or goes. */

static const struct refusal {
  const char *line;
  int code;
  const char *says; /* on stderr */
} refusals[] = {
    {"finegemm", 2, "a command is missing"},
    {"finegemm frobnicate", 2, "there is no command 'frobnicate'"},
    {"finegemm help frobnicate", 2, "there is no command 'frobnicate'"},
    {"finegemm --frobnicate", 2, "there is no command '--frobnicate'"},
    {"finegemm levels now", 2, "'now' is one argument too many"},
    {"finegemm levels --frobnicate", 2, "--frobnicate: there is no such option"},
    {"finegemm levels --json=1", 2, "--json"},
    {"finegemm doctor now", 2, "'now' is one argument too many"},
    {"finegemm levels >/dev/full", 4, "standard output cannot be written"},
    {"finegemm levels --json >/dev/full", 4, "cannot be written"},
    {"finegemm help gemm >/dev/full", 4, "standard output cannot be written"},

    {"finegemm gemm --b w.npy --out d.npy", 2, "--a is missing"},
    {"finegemm gemm --a x.npy --out d.npy", 2, "--b is missing"},
    {"finegemm gemm --a x.npy --b w.npy", 2, "--out is missing"},
    {"finegemm gemm --a", 2, "--a: missing argument"},
    {"finegemm gemm --a x.npy --b w.npy --out d.npy extra", 2, "'extra' is one argument too many"},
    {"finegemm gemm --a x.npy --b w.npy --out d.txt", 2, "--out is 'd.txt'; it must be FILE.npy or FILE.safetensors:NAME"},
    {"finegemm gemm --a x.npy --b w.npy --out d.safetensors", 2, "--out is 'd.safetensors'"},
    {"finegemm gemm --a x.npy --b w.npy --out d.safetensors:", 2, "--out is 'd.safetensors:'"},
    {"finegemm gemm --a x.npy --b w.npy --out ''", 2, "--out is ''"},
    {"finegemm gemm --a x.npy --b w.npy --out d.npy --out-type f64", 2, "--out-type is 'f64'; it must be bf16, f16 or f32"},
    {"finegemm gemm --a x.npy --b w.npy --out d.npy --level fast", 2, "--level is 'fast'; it must be best, exact, reference"},
    {"finegemm gemm --a x.npy --b w.npy --out d.npy --scaling-a 1x64", 2, "--scaling-a is '1x64'; it must be 1x128"},
    {"finegemm gemm --a x.npy --b w.npy --out d.npy --scaling-b row", 2, "--scaling-b is 'row'"},
    {"finegemm gemm --a x.npy --b w.npy --out d.npy --type-a int8", 2, "--type-a is 'int8'; it must be e4m3 or e5m2"},
    {"finegemm gemm --a x.npy --b w.npy --out d.npy --type-b int8", 2, "--type-b is 'int8'"},
    {"finegemm gemm --a x.npy --b w.npy --out d.npy --threads many", 2, "--threads is 'many'; it must be from 1 to 4096"},
    {"finegemm gemm --a x.npy --b w.npy --out d.npy --threads -1", 2, "--threads is '-1'"},
    {"finegemm gemm --a x.npy --b w.npy --out d.npy --threads 4097", 2, "--threads is '4097'"},
    {"finegemm gemm --a x.npy --b w.npy --out d.npy --threads 1e3", 2, "--threads is '1e3'"},
    {"finegemm gemm --a x.npy --b w.npy --out d.npy --level naive --device -1", 2, "--device is '-1'; it must be from 0"},
    {"finegemm gemm --a x.npy --b w.npy --out d.npy --device one", 2, "--device is 'one'"},
    {"finegemm gemm --a x.npy --b w.npy --out d.npy --device 0 --level blas", 2,
     "--device is '0', but level blas runs on the CPU"},
    {"finegemm gemm --a x.npy --b w.npy --out d.npy --split-k 0", 2, "--split-k is '0'; it must be from 1 to 2147483647"},
    {"finegemm gemm --a x.npy --b w.npy --out d.npy --split-k 2147483648", 2, "--split-k is '2147483648'"},
    {"finegemm gemm --a x.npy --b w.npy --out d.npy --split-k two", 2, "--split-k is 'two'"},

    {"finegemm gemm --a none.npy --b w.npy --out d.npy", 3, "none.npy"},
    {"finegemm gemm --a '' --b w.npy --out d.npy", 3, "finegemm gemm: "},
    {"finegemm gemm --a . --b w.npy --out d.npy", 3, "directory"},
    {"finegemm gemm --a folder.npy --b w.npy --out d.npy", 3, "directory"},
    {"finegemm gemm --a short.npy --b w.npy --out d.npy", 3, "short.npy"},
    {"finegemm gemm --a garbage.safetensors --b w.npy --out d.npy", 3, "garbage.safetensors"},
    {"finegemm gemm --a none.safetensors --b w.npy --out d.npy", 3, "none.safetensors holds no tensor"},
    {"finegemm gemm --a ints.npy --b w.npy --out d.npy", 3, "ints.npy is <i4; it must be F32, F16, BF16, F8_E4M3 or F8_E5M2"},
    {"finegemm gemm --a vector.npy --b w.npy --out d.npy", 3, "vector.npy has shape [300]; it must have two dimensions"},
    {"finegemm gemm --a x.npy:x --b w.npy --out d.npy", 3, "x.npy holds one tensor, which has no name"},
    {"finegemm gemm --a fp8.safetensors --b w.npy --out d.npy", 3,
     "fp8.safetensors holds 5 tensors; name one, as in fp8.safetensors:a"},
    {"finegemm gemm --a fp8.safetensors:z --b w.npy --out d.npy", 3, "fp8.safetensors has no tensor of this name"},
    {"finegemm gemm --a gone.safetensors:z --b w.npy --out d.npy", 3, "gone.safetensors"},
    {"finegemm gemm --a x.npy --b wt.npy --out d.npy", 3, "[37, 300] and B (wt.npy) is [300, 150]"},
    {"finegemm gemm --a x.npy --b wt.npy --out d.npy", 3, "B looks transposed"},
    {"finegemm gemm --a c.npy --b w.npy --out d.npy", 3, "must have the same k"},
    {"finegemm gemm --a x.npy --b w.npy --c x.npy --out d.npy", 3, "x.npy has shape [37, 300]; C must be [37, 150]"},
    {"finegemm gemm --a x.npy --b w.npy --c ints.npy --out d.npy", 3, "ints.npy is <i4"},
    {"finegemm gemm --a x.npy --b w.npy --c fp8.safetensors:a --out d.npy", 3,
     "fp8.safetensors:a is F8_E4M3; it must be F32, F16 or BF16"},
    {"finegemm gemm --a x.npy --b fp8.safetensors:bare --out d.npy", 3,
     "there is no 'bare_scale_inv' beside it; its scales must be F32, [150, 3] (1x128), [2, 3] (128x128) or [1] (tensor)"},
    {"finegemm gemm --a x.npy --b fp8.safetensors:odd --out d.npy", 3, "'odd_scale_inv' is F32 [3, 2]; its scales must be F32"},
    {"finegemm gemm --a x.npy --b fp8.safetensors:half --out d.npy", 3, "'half_scale_inv' is F16 [2, 3]"},
    {"finegemm gemm --a x.npy --b one.safetensors --scaling-b 1x128 --out d.npy", 3,
     "one.safetensors has scales of [2, 3], which is 128x128; they cannot become 1x128"},
    {"finegemm gemm --a x.npy --b one.safetensors --type-b e5m2 --out d.npy", 3,
     "one.safetensors is F8_E4M3 already; it cannot become F8_E5M2"},

    {"finegemm gemm --a x.npy --b w.npy --out folder.npy", 4,
     "--out: folder.npy: is a directory; output must go to a regular file"},
    {"finegemm gemm --a x.npy --b w.npy --out gone/d.npy", 4,
     "gone/d.npy: cannot be written: no file can be made in its directory: No such file"},
    {"finegemm gemm --a x.npy --b w.npy --out x.npy/d.npy", 4, "x.npy/d.npy: cannot be written: Not a directory"},
    {"finegemm gemm --a x.npy --b w.npy --out garbage.safetensors:d", 4,
     "--out: garbage.safetensors: is neither .npy nor .safetensors"},
    {"ulimit -f 8; finegemm gemm --a x.npy --b w.npy --out d.npy", 4, "d.npy"},
    {"ulimit -f 8; finegemm gemm --a x.npy --b w.npy --out x.npy", 4, "x.npy"},
    {"ulimit -f 8; finegemm gemm --a x.npy --b w.npy --out d.safetensors:d", 4, "d.safetensors"},
    {"ulimit -f 8; finegemm gemm --a x.npy --b w.npy --out one.safetensors:d", 4, "one.safetensors"},
    {"ulimit -f 8; finegemm quantize --in x.npy --out q.safetensors:x", 4, "q.safetensors"},

    {"finegemm gemm --a nan.npy --b w.npy --out d.npy", 5, "nan.npy: FG_BAD_VALUE: from is NaN at [5, 7]"},
    {"finegemm gemm --a x.npy --b nan_scale.safetensors --out d.npy", 5, "FG_BAD_SCALE: b.scale"},
    {"finegemm gemm --a x.npy --b w.npy --out d.npy --level full", 5, "FG_UNSUPPORTED: "},
    {"finegemm gemm --a x.npy --b w.npy --out d.npy --level naive", 5, "FG_UNSUPPORTED: "},
    {"finegemm gemm --a x.npy --b w.npy --out d.npy --level shared --device 1", 5, "FG_UNSUPPORTED: "},
    {"finegemm gemm --a x.npy --b w.npy --out d.npy --device 0", 5, "FG_UNSUPPORTED: "},
    {"finegemm gemm --a x.npy --b w.npy --out d.npy --split-k 2", 5, "FG_UNSUPPORTED: split_k is 2, but level is blas"},
    {"finegemm gemm --a tall.npy --b tall2.npy --out d.npy", 5, "FG_OUT_OF_MEMORY: no memory for D"},

    {"finegemm quantize --out q.safetensors:x", 2, "--in is missing"},
    {"finegemm quantize --in x.npy", 2, "--out is missing; it names the output, FILE.safetensors:NAME"},
    {"finegemm quantize --in x.npy --out q.npy", 2, "--out is 'q.npy'; it must be FILE.safetensors:NAME"},
    {"finegemm quantize --in x.npy --out q.safetensors:x --scaling 2x2", 2, "--scaling is '2x2'"},
    {"finegemm quantize --in x.npy --out q.safetensors:x --type e3m4", 2, "--type is 'e3m4'"},
    {"finegemm quantize --in gone.npy --out q.safetensors:x", 3, "gone.npy"},
    {"finegemm quantize --in vector.npy --out q.safetensors:x", 3, "vector.npy has shape [300]"},
    {"finegemm quantize --in ints.npy --out q.safetensors:x", 3, "ints.npy is <i4; it must be F32, F16 or BF16"},
    {"finegemm quantize --in fp8.safetensors:a --out q.safetensors:x", 3, "fp8.safetensors:a is F8_E4M3"},
    {"finegemm quantize --in x.npy --out gone/q.safetensors:x", 4, "gone"},
    {"finegemm quantize --in nan.npy --out q.safetensors:x", 5, "nan.npy: FG_BAD_VALUE: from is NaN at [5, 7]"},

    {"finegemm compare c.npy", 2, "an argument is missing; usage: finegemm compare D1 D2"},
    {"finegemm compare c.npy c.npy c.npy", 2, "one argument too many"},
    {"finegemm compare c.npy c.npy --a x.npy", 2, "--b is missing"},
    {"finegemm compare c.npy c.npy --c c.npy", 2, "--a is missing"},
    {"finegemm compare c.npy c.npy --out-type bf16", 2, "--a is missing"},
    {"finegemm compare c.npy c.npy --a x.npy --b w.npy --level slow", 2, "--level is 'slow'"},
    {"finegemm compare c.npy gone.npy", 3, "gone.npy"},
    {"finegemm compare c.npy ints.npy", 3, "ints.npy is <i4"},
    {"finegemm compare x.npy x.npy --a x.npy --b w.npy", 3, "x.npy has shape [37, 300], but A B^T is [37, 150]"},
    {"finegemm compare c.npy c.npy --a x.npy --b wt.npy", 3, "B looks transposed"},

    {"finegemm explain --b w.npy", 2, "--a is missing"},
    {"finegemm explain --a x.npy --b w.npy x.npy", 2, "one argument too many"},
    {"finegemm explain --a x.npy --b w.npy --level hopper", 2, "--level: there is no such option"},
    {"finegemm explain --a x.npy --b w.npy --row 37", 2, "--row is '37'; it must be from 0 to 36"},
    {"finegemm explain --a x.npy --b w.npy --row -1", 2, "--row is '-1'"},
    {"finegemm explain --a x.npy --b w.npy --col 150", 2, "--col is '150'; it must be from 0 to 149"},
    {"finegemm explain --a x.npy --b w.npy --col 99999999999999999999", 2, "--col is '99999999999999999999'"},
    {"finegemm explain --a x.npy --b w.npy --col ''", 2, "--col is ''"},
    {"finegemm explain --a x.npy --b w.npy --split-k 0", 2, "--split-k is '0'"},
    {"finegemm explain --a x.npy --b w.npy --out-type f64", 2, "--out-type is 'f64'"},
    {"finegemm explain --a x.npy --b w.npy --threads many", 2, "--threads is 'many'"},
    {"finegemm explain --a x.npy --b wt.npy", 3, "B looks transposed"},
    {"finegemm explain --a empty.npy --b w.npy", 3, "D is [0, 150]: it has no elements"},
    {"finegemm explain --a nan.npy --b w.npy", 5, "FG_BAD_VALUE: from is NaN at [5, 7]"},
    {"finegemm explain --a x.npy --b nan_scale.safetensors --col 128", 5,
     "FG_BAD_SCALE: b.scale of this element is nan for block 1 of K; it must be finite"},
    {"finegemm explain --a x.npy --b w.npy --products >/dev/full", 4, "standard output cannot be written"},

    {"finegemm inspect", 2, "an argument is missing"},
    {"finegemm inspect x.npy w.npy", 2, "one argument too many"},
    {"finegemm inspect x.npy --threads no", 2, "--threads is 'no'"},
    {"finegemm inspect gone.npy", 3, "gone.npy"},
    {"finegemm inspect fp8.safetensors:z", 3, "has no tensor of this name"},
    {"finegemm inspect short.npy", 3, "short.npy"},

    {"finegemm demo x.npy", 2, "W is missing"},
    {"finegemm demo x.npy w.npy c.npy", 2, "one argument too many"},
    {"finegemm demo x.npy w.npy --size 1x2x3", 2, "--size is of the layer that is made"},
    {"finegemm demo --size 1x2", 2, "--size is '1x2'; it must be MxNxK"},
    {"finegemm demo --size 1x2x0", 2, "--size is '1x2x0'"},
    {"finegemm demo --size 1x2x3x4", 2, "--size is '1x2x3x4'"},
    {"finegemm demo x.npy wt.npy", 3, "B looks transposed"},
    {"finegemm demo x.npy gone.npy", 3, "gone.npy"},
    {"finegemm demo nan.npy w.npy", 5, "nan.npy: FG_BAD_VALUE"},

    {"finegemm plan", 2, "--m is missing; a problem has --m, --n and --k"},
    {"finegemm plan --m 1 --k 1", 2, "--n is missing"},
    {"finegemm plan --m 1 --n 1", 2, "--k is missing"},
    {"finegemm plan 1 2 3", 2, "'1' is one argument too many"},
    {"finegemm plan --m -1 --n 1 --k 1", 2, "--m is '-1'; it must be from 0"},
    {"finegemm plan --m 1 --n 1e3 --k 1", 2, "--n is '1e3'"},
    {"finegemm plan --m 1 --n 1 --k 9223372036854775808", 2, "--k is '9223372036854775808'"},
    {"finegemm plan --m 1 --n 1 --k 1 --kind sparse", 2, "--kind is 'sparse'; it must be dense, batched"},
    {"finegemm plan --m 1 --n 1 --k 1 --groups 2", 2, "--groups is '2', but --kind is dense"},
    {"finegemm plan --m 1 --n 1 --k 1 --kind masked --groups -2", 2, "--groups is '-2'"},
    {"finegemm plan --m 1 --n 1 --k 1 --kind masked --expected-m few", 2, "--expected-m is 'few'"},
    {"finegemm plan --m 1 --n 1 --k 1 --type-a bf16", 2, "--type-a is 'bf16'"},
    {"finegemm plan --m 1 --n 1 --k 1 --type-b ''", 2, "--type-b is ''"},
    {"finegemm plan --m 1 --n 1 --k 1 --level fast", 2, "--level is 'fast'"},
    {"finegemm plan --m 1 --n 1 --k 1 --sm-limit 0", 2, "--sm-limit is '0'; it must be from 1"},
    {"finegemm plan --m 1 --n 1 --k 1 --split-k 0", 2, "--split-k is '0'"},
    {"finegemm plan --m 1 --n 1 --k 1 --block-m 0", 2, "--block-m is '0'"},
    {"finegemm plan --m 1 --n 1 --k 1 --block-n -64", 2, "--block-n is '-64'"},
    {"finegemm plan --m 1 --n 1 --k 1 --blocks many", 2, "--blocks is 'many'"},
    {"finegemm plan --m 1 --n 1 --k 1 --cluster 0", 2, "--cluster is '0'; it must be from 1"},
    {"finegemm plan --m 1 --n 1 --k 1 --gpu H1000", 2, "--gpu is 'H1000'; 'finegemm plan --gpus' lists"},
    {"finegemm plan --m 1 --n 1 --k 1 --gpu H20 --arch sm_90a", 2, "--arch is 'sm_90a', but --gpu says which GPU"},
    {"finegemm plan --m 1 --n 1 --k 1 --arch hopper", 2, "--arch is 'hopper'; it must be as the compiler names it"},
    {"finegemm plan --m 1 --n 1 --k 1 --arch sm_90A", 2, "--arch is 'sm_90A'"},
    {"finegemm plan --m 1 --n 1 --k 1 --arch sm_", 2, "--arch is 'sm_'"},
    {"finegemm plan --m 1 --n 1 --k 1 --arch sm_120a", 2, "--sms is missing; no GPU of sm_120a is known"},
    {"finegemm plan --m 1 --n 1 --k 1 --sms 0", 2, "--sms is '0'"},
    {"finegemm plan --m 1 --n 1 --k 1 --level blas", 5, "FG_UNSUPPORTED: level is blas"},
    {"finegemm plan --m 1 --n 1 --k 1 --level wgmma", 5, "FG_UNSUPPORTED: k is 1; level wgmma"},
    {"finegemm plan --m 1 --n 1 --k 1 --split-k 9", 5, "FG_UNSUPPORTED: split_k is 9"},
    {"finegemm plan --level shared --m 1 --n 1 --k 1 --split-k 2", 5, "FG_UNSUPPORTED: split_k is 2"},
    {"finegemm plan --m 1 --n 1 --k 1 --split-k 2 --no-split-k", 5, "FG_BAD_SIZE: split_k is 2"},
    {"finegemm plan --m 1 --n 1 --k 1 --block-m 7", 5, "FG_BAD_PLAN: plan.block_m is 7"},
    {"finegemm plan --m 1 --n 1 --k 1 --block-n 4096", 5, "FG_BAD_PLAN: plan.block_n is 4096"},
    {"finegemm plan --m 1 --n 1 --k 1 --cluster 2 --gpu A100", 5, "FG_BAD_PLAN: plan.cluster is 2"},
    {"finegemm plan --m 1 --n 1 --k 1 --cluster 2 --blocks 3", 5, "FG_BAD_PLAN: plan.blocks is 3, which clusters"},
    {"finegemm plan --m 1 --n 1 --k 1 --blocks 4 --sm-limit 3", 5, "FG_BAD_PLAN: plan.blocks is 4, more than sm_limit = 3"},

    {"finegemm precompile now", 2, "'now' is one argument too many"},
    {"finegemm precompile --n 128", 2, "--k is missing; it goes with --n"},
    {"finegemm precompile --k 128", 2, "--n is missing; it goes with --k"},
    {"finegemm precompile --groups 8", 2, "--k is missing"},
    {"finegemm precompile --n 128 --k 128 --groups 0", 2, "--groups is '0'; it must be from 1"},
    {"finegemm precompile --config config.json --weights one.safetensors", 2, "more than one of --config, --weights"},
    {"finegemm precompile --config config.json --n 1 --k 1", 2, "more than one of --config, --weights"},
    {"finegemm precompile --n 128, --k 128", 2, "--n is '128,'; an item of the list is empty"},
    {"finegemm precompile --n '' --k 128", 2, "--n is ''; an item of the list is empty"},
    {"finegemm precompile --n 128,x --k 128", 2, "--n is 'x'; it must be from 1"},
    {"finegemm precompile --n 128 --k 0", 2, "--k is '0'"},
    {"finegemm precompile --m 64-", 2, "--m is ''"},
    {"finegemm precompile --m 64-32", 2, "--m is '64-32'; a range must ascend"},
    {"finegemm precompile --m 0", 2, "--m is '0'"},
    {"finegemm precompile --m 1-99999999999999999", 2, "--m is '99999999999999999'"},
    {"finegemm precompile --types e4m3", 2, "--types is 'e4m3'; it must be pairs"},
    {"finegemm precompile --types e4m3:int8", 2, "--types is 'int8'"},
    {"finegemm precompile --types e4m3:e4m3,", 2, "an item of the list is empty"},
    {"finegemm precompile --levels shared,fast", 2, "--levels is 'fast'"},
    {"finegemm precompile --gpu H1000", 2, "--gpu is 'H1000'"},
    {"finegemm precompile --arch sm_90a --sms no", 2, "--sms is 'no'"},
    {"finegemm precompile --threads no", 2, "--threads is 'no'"},
    {"finegemm precompile --weights one.safetensors --types e4m3:e5m2", 2,
     "--types is 'e4m3:e5m2', but one.safetensors holds no B of such a type"},
    {"finegemm precompile --weights gone.safetensors", 3, "gone.safetensors"},
    {"finegemm precompile --weights garbage.safetensors", 3, "garbage.safetensors"},
    {"finegemm precompile --weights x.npy", 3, "x.npy: holds no FP8 matrix with its scales beside it"},
    {"finegemm precompile --weights shifted.safetensors", 3, "shifted.safetensors: holds no FP8 matrix"},
    {"finegemm precompile --config gone.json", 3, "gone.json: cannot be opened: No such file"},
    {"finegemm precompile --config folder.npy", 3, "folder.npy: it must be a regular file"},
    {"finegemm precompile --config garbage.safetensors", 3, "garbage.safetensors: is not JSON: line 1"},
    {"finegemm precompile --levels reference", 5, "FG_UNSUPPORTED: level is reference"},
    {"finegemm precompile --levels full --gpu A100", 5, "FG_UNSUPPORTED: level is full, which needs a Hopper GPU"},
    {"finegemm precompile --levels tma --gpu A100", 5, "FG_UNSUPPORTED: level is tma, which needs a Hopper GPU"},

    {"finegemm cache", 2, "an argument is missing; usage: finegemm cache list|verify|clear|export DIR"},
    {"finegemm cache burn", 2, "'burn' is nothing to do with a cache; it must be list, verify, clear or export"},
    {"finegemm cache list it", 2, "'it' is one argument too many"},
    {"finegemm cache export", 2, "DIR is missing"},
    {"finegemm cache export a b", 2, "'b' is one argument too many"},
    {"finegemm cache list --directory ''", 2, "--directory is ''"},
    {"finegemm cache list --directory relative", 5, "FG_UNSUPPORTED: relative is a relative path"},
    {"finegemm cache clear --directory relative", 5, "FG_UNSUPPORTED: relative is a relative path"},
    {"finegemm cache verify --directory \"$PWD/x.npy\"", 5, "x.npy is not a directory"},
    {"export FG_CACHE_DIR=; finegemm cache list", 5, "FG_CACHE_DIR is empty: no cache is wanted"},
    {"finegemm cache export gone/ship", 5, "gone/ship cannot be made: No such file"},
    {"finegemm cache export x.npy", 5, "x.npy"},

    {"finegemm lesson 4 now", 2, "'now' is one argument too many"},
    {"finegemm lesson 5 --frobnicate", 2, "--frobnicate: there is no such option"},
    {"finegemm lesson 11", 2, "'11' is no lesson"},
};

Test(cli, refusals) {
  uint64_t before = hash_of_folder();
  for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
    const struct refusal *wanted = &refusals[i];
    struct answer answer = run(wanted->line);
    const char *end = strchr(answer.err, '\n');
    cr_expect(answer.code == wanted->code, "%s: exit code %d, not %d: %s", wanted->line, answer.code, wanted->code, answer.err);
    cr_expect(strncmp(answer.err, "finegemm", 8) == 0 && strstr(answer.err, wanted->says), "%s: '%s', but it said: %s",
              wanted->line, wanted->says, answer.err);
    cr_expect(end && end[1] == '\0', "%s: not one line: %s", wanted->line, answer.err);
    cr_expect(hash_of_folder() == before, "%s: files changed", wanted->line);
  }
}

/* What is wrong with an output comes before what is wrong with an input, and so before all work. */
static bool fails_early(const char *out, const char *says) {
  char line[256];
  snprintf(line, sizeof line, "finegemm gemm --a gone.npy --b w.npy --out %s", out);
  struct answer answer = run(line);
  bool good = answer.code == 4 && strstr(answer.err, says);
  if (!good) fprintf(stderr, "%s: exit code %d: '%s', but it said: %s", line, answer.code, says, answer.err);
  return good;
}

Test(cli, outputs_are_looked_at_first) {
  write_npy("npy.safetensors", "<f4", false, "37, 300", x, sizeof x);
  cr_assert(mkfifo("pipe.npy", 0600) == 0 && symlink("/dev/null", "device.npy") == 0 && symlink("gone/d", "link.npy") == 0);
  cr_expect(fails_early("npy.safetensors:d", "npy.safetensors: is a .npy file, which holds one tensor without a name"));
  cr_expect(fails_early("d.safetensors:__metadata__", "tensor '__metadata__' has the name that the format keeps for itself"));
  cr_expect(fails_early("one.safetensors:__metadata__", "tensor '__metadata__' has the name that the format keeps for itself"));
  cr_expect(fails_early("\"$(printf 'd.safetensors:\\377')\"", "has a name that is not UTF-8"));
  cr_expect(fails_early("pipe.npy", "pipe.npy: is a pipe; output must go to a regular file"));
  cr_expect(fails_early("device.npy", "device.npy: is a device; output must go to a regular file"));
  cr_expect(fails_early("link.npy", "link.npy: cannot be written: no file can be made in its directory: No such file"));
}

/* Root may write anywhere, so this runs as somebody else. */
Test(cli, permissions_are_looked_at_first) {
  char command[4400];
  snprintf(command, sizeof command, "cp '%s' program && chmod 755 program", FINEGEMM_PROGRAM);
  cr_assert(system(command) == 0 && setenv("FINEGEMM", "./program", 1) == 0);
  cr_assert(mkdir("closed", 0755) == 0 && symlink("closed/d", "link.npy") == 0 && symlink("closed/d", "link.safetensors") == 0);
  cr_assert(chmod("c.npy", 0444) == 0 && chmod("one.safetensors", 0444) == 0 && chmod("closed", 0555) == 0);
  cr_assert(chmod(folder, 0777) == 0 && chmod(prints, 0777) == 0);
  pid_t child = fork();
  if (child == 0) {
    if (getuid() == 0 && setuid(65534)) _exit(99);
    bool good = fails_early("c.npy", "c.npy: cannot be written: Permission denied");
    good = fails_early("one.safetensors:d", "one.safetensors: cannot be written: Permission denied") && good;
    good = fails_early("closed/d.npy", "no file can be made in its directory: Permission denied") && good;
    good = fails_early("link.npy", "no file can be made in its directory: Permission denied") && good;
    good = fails_early("link.safetensors:d", "no file can be made in its directory: Permission denied") && good;
    _exit(!good);
  }
  int status;
  cr_assert(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %x", (unsigned)status);
}

/* As mktemp leaves it. */
Test(cli, empty_files_become_outputs) {
  write_bytes("d.safetensors", "", 0, false);
  run_well("finegemm gemm --a x.npy --b w.npy --out d.safetensors:d");
  cr_expect(load("d.safetensors", "d")->count == M * N);
  write_bytes("d.npy", "", 0, false);
  run_well("finegemm gemm --a x.npy --b w.npy --out d.npy");
  cr_expect(load("d.npy", "")->count == M * N);
}

/* --- What must work; with nothing on stderr, which is no terminal here. */

static const struct {
  const char *line, *says;
} successes[] = {
    {"finegemm --version", "finegemm 0.1.0\n"},
    {"finegemm --help", "Exit codes: 0 done"},
    {"finegemm -h", "compare"},
    {"finegemm help", "quantize"},
    {"finegemm help gemm", "--scaling-a=1x128|128x128|tensor"},
    {"finegemm help explain", "Usage: finegemm explain --a X --b W"},
    {"finegemm gemm --help", "Usage: finegemm gemm --a X --b W"},
    {"finegemm gemm -h", "print one JSON object"},
    {"finegemm help lesson", "Runs lesson N"},
    {"finegemm levels", "reference   any CPU       host    reference   yes"},
    {"finegemm doctor", "All levels for the CPU work."},
    {"finegemm gemm --a x.npy --b w.npy --out d.npy --threads 1",
     "D [37, 150], k 300: level blas, F8_E4M3 1x128 by F8_E4M3 128x128"},
    {"finegemm gemm --a x.npy --b one.safetensors --out d.npy --out-type bf16", "d.npy holds it as F32, rounded to BF16"},
    {"finegemm gemm --a empty.npy --b w.npy --out d.npy", "D [0, 150], k 300"},
    {"finegemm gemm --a x.npy --b w.npy --out d.npy --level hopper --split-k 2", "k 300: level hopper, K in 2 ranges, F8_E4M3"},
    {"finegemm explain --a x.npy --b w.npy", "D[0, 0] of [37, 150], k 300, level hopper, F8_E4M3 1x128 by F8_E4M3 128x128"},
    {"finegemm explain --a x.npy --b one.safetensors --col 149", "\n300 products, "},
    {"finegemm explain --a x.npy --b nan_scale.safetensors", "\n300 products, "}, /* the NaN is another column's */
    {"finegemm compare x.npy x.npy", "Their bits are equal."},
    {"finegemm compare empty.npy empty.npy", "bits differ  0 of 0 elements"},
    {"finegemm quantize --in empty.npy --out e.safetensors:e", "e.safetensors:e and e_scale_inv hold them"},
    {"finegemm quantize --in empty.npy --out e.safetensors:t --scaling tensor", "tensor scales [1]"},
    {"finegemm inspect fp8.safetensors", "scales of w.weight"},
    {"finegemm inspect one.safetensors", "w.weight            F8_E4M3  [150, 300]  45000  128x128"},
    {"finegemm inspect fp8.safetensors:bare", "none beside it"},
    {"finegemm inspect fp8.safetensors:odd", "F32 [3, 2] do not fit"},
    {"finegemm inspect ints.npy", "<i4"},
    {"finegemm inspect empty.npy", "[0, 300], 0 bytes"},
    {"finegemm inspect x.npy", "quantised to e4m3"},
    {"finegemm demo --size 9x130x200", "Every element of every level is within its bound."},
    {"finegemm demo --size 9x130x200", "\n1x128 of X, 1x128 of W "},
    {"finegemm demo --size 9x130x200", "\nhopper is what an H100 gives, bit for bit: "},
    {"finegemm demo x.npy one.safetensors", "\none for X, W as it is "},
    {"finegemm demo x.npy one.safetensors", "on FP8 (1x128 of X, W as it is), D in FP32"},
    {"finegemm demo fp8.safetensors:a w.npy", "\nX as it is, 128x128 of W "},
    {"finegemm levels", "\nnot here: "},
    {"finegemm doctor", "/cache (FG_CACHE_DIR): made when the first kernel is kept"},
    {"finegemm plan --gpus", "H20          sm_90a                     78"},
    {"finegemm plan --m 512 --n 4096 --k 7168", "H100 SXM (sm_90a, 132 multiprocessors)\ndense, m 512, n 4096, k 7168"},
    {"finegemm plan --m 512 --n 4096 --k 7168 --gpu h20", "H20 (sm_90a, 78 multiprocessors)"},
    {"finegemm plan --m 512 --n 4096 --k 7168 --gpu H20 --sms 1", "H20 (sm_90a, 1 multiprocessor)"},
    {"finegemm plan --m 9 --n 9 --k 9 --arch sm_120a --sms 170", "a GPU (sm_120a, 170 multiprocessors)"},
    {"finegemm plan --m 9 --n 9 --k 9 --kind masked --groups 8", "masked of 8, m 9"},
    {"finegemm plan --m 9 --n 9 --k 9 --sm-limit 5 --no-split-k", "on at most 5 multiprocessors"},
    {"finegemm plan --m 0 --n 9 --k 9", "0 tiles each"},
    {"finegemm cache list", "made when the first kernel is kept\n\n0 kernels, 0 bytes\n"},
    {"finegemm cache verify", "0 of 0 files would be loaded.\n"},
    {"finegemm cache clear", "0 files removed\n"},
    {"finegemm help precompile", "--weights=FILE.safetensors"},
    {"finegemm help cache", "verify: exits with 1"},
};

Test(cli, successes) {
  for (size_t i = 0; i < sizeof successes / sizeof *successes; i++) {
    char *out = run_well(successes[i].line);
    cr_expect(strstr(out, successes[i].says), "%s: '%s', but it said: %s", successes[i].line, successes[i].says, out);
  }
}

Test(cli, files_with_colons) {
  cr_assert(rename("one.safetensors", "a:b.safetensors") == 0 && rename("x.npy", "x:1.npy") == 0);
  run_well("finegemm gemm --a x:1.npy --b a:b.safetensors:w.weight --out d:1.safetensors:d:2");
  cr_assert(load("d:1.safetensors", "d:2")->count == M * N);
}

/* A name in a file must not steer a terminal. */
Test(cli, names_are_harmless) {
  const struct piece piece = {"red\\u001b[31m", "F32", "2,3", x, 24};
  write_safetensors("red.safetensors", &piece, 1, 0);
  const struct piece two[] = {piece, {"b", "F32", "2,3", x, 24}};
  write_safetensors("two.safetensors", two, 2, 0);
  cr_assert(!strchr(run_well("finegemm inspect two.safetensors"), 033));
  cr_assert(!strchr(run("finegemm inspect two.safetensors:$(printf '\\033')").err, 033));
  json_t *json = json_from("finegemm inspect --json red.safetensors", 0);
  cr_assert_str_eq(string_in(json, "name"), "red\033[31m");
}

/* --- Numbers: what the program writes is what the library gives. */

static fg_context *context(void) {
  static fg_context *made;
  if (!made) cr_assert(fg_context_create(&made, NULL) == FG_OK);
  return made;
}

static void multiply_here(const fg_operand *a, const fg_operand *b, const fg_operand *add, fg_level level, fg_type type,
                          void *d) {
  fg_problem problem = {.m = M, .n = N, .k = K, .a = *a, .b = *b, .level = level, .d = {.data = d, .type = type}};
  if (add) problem.c = *add;
  cr_assert(fg_gemm(context(), &problem) == FG_OK, "%s", fg_message());
}

static const struct scaling_case {
  const char *name, *a_shape, *b_shape;
  fg_scaling scaling;
  int a_scales, b_scales;
} scaling_cases[] = {{"1x128", "37,3", "150,3", FG_1X128, M *KB, N *KB},
                     {"128x128", "1,3", "2,3", FG_128X128, KB, 2 * KB},
                     {"tensor", "1", "1,1", FG_TENSOR, 1, 1}};
static const char *const fp8_names[] = {"F8_E4M3", "F8_E5M2"}, *const out_names[] = {"bf16", "f16", "f32"};
static const fg_type out_types[] = {FG_BF16, FG_FP16, FG_FP32};

/* FP8 files with scales beside them: all types by all scalings, each level, C of each type in turn, every output type. */
Test(cli, gemm_on_fp8_files, .timeout = 600) {
  static const char *const levels[] = {"exact", "reference", "blas", "hopper"};
  static const fg_level level_values[] = {FG_EXACT, FG_REFERENCE, FG_BLAS, FG_HOPPER};
  static float d[M * N];
  static uint16_t c16[M * N];
  int turn = 0;
  for (int a_scaling = 0; a_scaling < 3; a_scaling++)
    for (int b_scaling = 0; b_scaling < 3; b_scaling++)
      for (int types = 0; types < 4; types++, turn++) {
        const struct scaling_case *sa = &scaling_cases[a_scaling], *sb = &scaling_cases[b_scaling];
        fg_operand a = {.data = x8, .scale = x_scale, .type = types & 1 ? FG_E5M2 : FG_E4M3, .scaling = sa->scaling};
        fg_operand b = {.data = w8, .scale = w_scale, .type = types & 2 ? FG_E5M2 : FG_E4M3, .scaling = sb->scaling};
        fg_operand add = {.data = c16, .type = turn % 2 ? FG_BF16 : FG_FP16};
        fg_conversion narrow = {.rows = M, .cols = N, .from = {.data = c}, .to = {.data = c16, .type = add.type}};
        cr_assert(fg_convert(context(), &narrow) == FG_OK);
        const struct piece pieces[] = {{"c", turn % 2 ? "BF16" : "F16", "37,150", c16, sizeof c16},
                                       {"x.weight", fp8_names[types & 1], "37,300", x8, sizeof x8},
                                       {"x.weight_scale_inv", "F32", sa->a_shape, x_scale, (size_t)sa->a_scales * 4},
                                       {"y", fp8_names[types >> 1], "150,300", w8, sizeof w8},
                                       {"y_scale_inv", "F32", sb->b_shape, w_scale, (size_t)sb->b_scales * 4}};
        write_safetensors("in.safetensors", pieces, 5, turn % 8); /* scales and C misaligned in every way */
        int level = (turn + turn / 4) % 4, out = turn / 3 % 3;
        char line[512];
        snprintf(line, sizeof line,
                 "finegemm gemm --a in.safetensors:x.weight --b in.safetensors:y --c in.safetensors:c --level %s --out-type %s "
                 "--out out.safetensors:d --json %s%s",
                 levels[level], out_names[out], turn & 1 ? "--scaling-a " : "", turn & 1 ? sa->name : "");
        json_t *json = json_from(line, 0);
        multiply_here(&a, &b, &add, level_values[level], out_types[out], d);
        const struct tensor *got = load("out.safetensors", "d");
        cr_assert(got->type == out_types[out] && got->rank == 2 && got->shape[0] == M && got->shape[1] == N, "%s", line);
        cr_expect(memcmp(got->data, d, (size_t)got->bytes) == 0, "%s: other bits (A %s, B %s)", line, sa->name, sb->name);
        cr_expect_str_eq(string_in(json, "level"), levels[level]);
        cr_expect(integer_in(json, "m") == M && integer_in(json, "n") == N && integer_in(json, "k") == K);
        cr_expect_str_eq(string_in(json_object_get(json, "a"), "scaling"), sa->name);
        cr_expect_str_eq(string_in(json_object_get(json, "b"), "type"), fp8_names[types >> 1]);
        cr_expect(number_in(json, "seconds") > 0 && number_in(json, "gflops") > 0);
      }
}

/* --- A Hopper tensor core's bits. */

enum { SMALL_M = 5, MOST_K = 1100 };
static uint8_t small_a[SMALL_M * MOST_K], small_b[N * MOST_K];
static float small_a_scale[SMALL_M * 9], small_b_scale[N * 9];

/* A problem whose files are in.safetensors: types, scalings, K with and without tails, C, ranges of K, NaN and infinity. */
struct hopper_case {
  int64_t k, blocks;
  fg_type a_type, b_type, out_type;
  const struct scaling_case *a_scaling, *b_scaling;
  bool with_c;
  int64_t ranges;
  char options[256]; /* of gemm and explain */
};

/* Finite codes mostly near the largest, or of all sizes, and of 1500 codes one is special. */
static void random_codes(uint8_t *codes, int64_t count, int turn) {
  for (int64_t i = 0; i < count; i++) {
    uint8_t code = turn % 2 ? (uint8_t)(next_bits() % 0x7C) : (uint8_t)(0x70 + next_bits() % 0x0C);
    codes[i] = (uint8_t)((next_bits() & 0x80) | (next_bits() % 1500 ? code : 0x7C + next_bits() % 4));
  }
}

static struct hopper_case make_hopper_case(int turn) {
  static const int64_t ks[] = {300, 0, 1, 31, 32, 33, 127, 128, 129, 160, 640, MOST_K};
  static const char *const outs[] = {"bf16", "f16", "f32"};
  struct hopper_case p = {.k = ks[turn % 12], .with_c = turn / 4 % 2, .ranges = 1 + turn % 5};
  p.blocks = (p.k + 127) / 128;
  p.a_type = turn & 1 ? FG_E5M2 : FG_E4M3;
  p.b_type = turn / 2 & 1 ? FG_E5M2 : FG_E4M3;
  p.out_type = out_types[turn / 3 % 3];
  p.a_scaling = &scaling_cases[turn / 4 % 3];
  p.b_scaling = &scaling_cases[turn / 5 % 3];
  random_codes(small_a, SMALL_M * p.k, turn / 7);
  random_codes(small_b, N * p.k, turn / 8);
  for (int i = 0; i < SMALL_M * 9; i++) small_a_scale[i] = 0x1p-7f * (float)(1 + next_bits() % 1000);
  for (int i = 0; i < N * 9; i++) small_b_scale[i] = -0x1p-9f * (float)(1 + next_bits() % 1000);
  char shapes[4][32];
  const fg_scaling scalings[2] = {p.a_scaling->scaling, p.b_scaling->scaling};
  const int64_t rows[2] = {SMALL_M, N};
  size_t scales[2];
  for (int i = 0; i < 2; i++) {
    int64_t scale_rows = scalings[i] == FG_1X128 ? rows[i] : (rows[i] + 127) / 128;
    scales[i] = scalings[i] == FG_TENSOR ? 1 : (size_t)(scale_rows * p.blocks);
    snprintf(shapes[i], sizeof shapes[i], "%lld,%lld", (long long)rows[i], (long long)p.k);
    snprintf(shapes[2 + i], sizeof shapes[2 + i], "%lld,%lld", (long long)scale_rows, (long long)p.blocks);
    if (scalings[i] == FG_TENSOR) snprintf(shapes[2 + i], sizeof shapes[2 + i], "1");
  }
  const struct piece pieces[] = {{"a", fp8_names[p.a_type == FG_E5M2], shapes[0], small_a, (size_t)(SMALL_M * p.k)},
                                 {"a_scale_inv", "F32", shapes[2], small_a_scale, scales[0] * 4},
                                 {"b", fp8_names[p.b_type == FG_E5M2], shapes[1], small_b, (size_t)(N * p.k)},
                                 {"b_scale_inv", "F32", shapes[3], small_b_scale, scales[1] * 4},
                                 {"c", "F32", "5,150", c, SMALL_M * N * sizeof *c}};
  write_safetensors("in.safetensors", pieces, 5, turn % 8);
  snprintf(p.options, sizeof p.options, "--a in.safetensors:a --b in.safetensors:b%s --split-k %lld --out-type %s",
           p.with_c ? " --c in.safetensors:c" : "", (long long)p.ranges, outs[turn / 3 % 3]);
  return p;
}

static float scale_of(const float *scales, fg_scaling scaling, int64_t row, int64_t block, int64_t blocks) {
  return scales[scaling == FG_TENSOR ? 0 : (scaling == FG_1X128 ? row : row / 128) * blocks + block];
}

/* D[i, j] before it is rounded, by the formulas of finegemm.h. */
static float hopper_element(const struct hopper_case *p, int64_t i, int64_t j) {
  float total = 0;
  int64_t ranges = p->ranges < p->blocks ? p->ranges : p->blocks;
  for (int64_t range = 0; range < ranges; range++) {
    float sum = 0;
    for (int64_t b = range * p->blocks / ranges; b < (range + 1) * p->blocks / ranges; b++) {
      float dot, scale = scale_of(small_a_scale, p->a_scaling->scaling, i, b, p->blocks) *
                         scale_of(small_b_scale, p->b_scaling->scaling, j, b, p->blocks);
      cr_assert(fg_mma(p->a_type, small_a + i * p->k + b * 128, p->b_type, small_b + j * p->k + b * 128,
                       p->k - b * 128 < 128 ? p->k - b * 128 : 128, 0, &dot, NULL) == FG_OK);
      sum = fmaf(scale, dot, sum);
    }
    total = range == 0 ? sum : total + sum;
  }
  return p->with_c ? total + c[i * N + j] : total;
}

static json_t *item(json_t *json, const char *key, size_t index) {
  json_t *list = json_object_get(json, key), *found = json_array_get(list, index);
  cr_assert(found, "%s[%zu]", key, index);
  return found;
}

/* A number, or NaN for what JSON has none for. */
static double number_or_nan(json_t *json, const char *key) {
  json_t *value = json_object_get(json, key);
  cr_assert(json_is_number(value) || json_is_null(value), "%s", key);
  return json_is_null(value) ? (double)NAN : json_number_value(value);
}

static bool same(double left, double right) { return left == right || !(isfinite(left) || isfinite(right)); }

/* A product's code, value, term and cut fit together. */
static void check_product(json_t *product, json_t *step, const struct hopper_case *p, int64_t i, int64_t j) {
  int64_t k = integer_in(product, "k");
  json_t *exponent = json_object_get(step, "exponent"), *own = json_object_get(product, "exponent");
  double value = number_or_nan(product, "product"), cut = number_in(product, "cut");
  cr_assert(integer_in(product, "a_code") == small_a[i * p->k + k] && integer_in(product, "b_code") == small_b[j * p->k + k]);
  cr_assert(same(value, number_or_nan(product, "a") * number_or_nan(product, "b")));
  cr_assert(json_is_null(own) == (value == 0));
  if (json_is_null(exponent)) {
    cr_assert(integer_in(product, "term") == 0 && cut == 0);
  } else {
    cr_assert(value == ldexp((double)integer_in(product, "term"), (int)json_integer_value(exponent) - 13) + cut);
    cr_assert(json_is_null(own) || json_integer_value(own) <= json_integer_value(exponent));
  }
}

/* What holds within a step; returns its result. */
static double check_step(json_t *step, double accumulator, const struct hopper_case *p, int64_t i, int64_t j) {
  json_t *exponent = json_object_get(step, "exponent");
  double unit = json_is_null(exponent) ? 0 : ldexp(1, (int)json_integer_value(exponent) - 13);
  double lost = json_is_null(exponent) ? 0 : accumulator - (double)integer_in(step, "accumulator_term") * unit;
  int64_t count = integer_in(step, "count"), not_zero = 0, cut = 0, vanished = 0;
  cr_assert(same(number_or_nan(step, "accumulator"), accumulator));
  cr_assert((size_t)count == json_array_size(json_object_get(step, "products")));
  for (int64_t l = 0; l < count; l++) {
    json_t *product = item(step, "products", (size_t)l);
    cr_assert(integer_in(product, "k") == integer_in(step, "k") + l);
    check_product(product, step, p, i, j);
    not_zero += number_or_nan(product, "product") != 0;
    cut += number_in(product, "cut") != 0;
    vanished += number_in(product, "cut") != 0 && integer_in(product, "term") == 0;
    lost += number_in(product, "cut");
  }
  cr_assert(not_zero == integer_in(step, "not_zero") && cut == integer_in(step, "cut"));
  cr_assert(vanished == integer_in(step, "vanished"));
  cr_assert(fabs(number_in(step, "lost_in_terms") - lost) <= 0x1p-40 * unit);
  double result = number_or_nan(step, "result");
  if (!json_is_null(exponent)) cr_assert(result == (double)integer_in(step, "sum") * unit - number_in(step, "lost_in_sum"));
  return result;
}

/* What holds within a block; returns its dot. */
static double check_block(json_t *block, double before, const struct hopper_case *p, int64_t i, int64_t j) {
  int64_t b = integer_in(block, "block"), count = 0, cut = 0;
  float a_scale = scale_of(small_a_scale, p->a_scaling->scaling, i, b, p->blocks);
  float b_scale = scale_of(small_b_scale, p->b_scaling->scaling, j, b, p->blocks);
  double dot = 0, lost = 0;
  cr_assert(number_in(block, "a_scale") == (double)a_scale && number_in(block, "b_scale") == (double)b_scale);
  cr_assert(number_in(block, "scale") == (double)(a_scale * b_scale));
  for (size_t s = 0; s < json_array_size(json_object_get(block, "steps")); s++) {
    json_t *step = item(block, "steps", s);
    cr_assert(integer_in(step, "k") == b * 128 + (int64_t)s * 32);
    dot = check_step(step, dot, p, i, j);
    count += integer_in(step, "count");
    cut += integer_in(step, "cut");
    lost += number_in(step, "lost_in_terms") + number_in(step, "lost_in_sum");
  }
  cr_assert(count == (p->k - b * 128 < 128 ? p->k - b * 128 : 128) && count == integer_in(block, "count"));
  cr_assert(cut == integer_in(block, "cut") && number_in(block, "lost") == lost && same(number_or_nan(block, "dot"), dot));
  cr_assert(same(number_or_nan(block, "sum"), (double)fmaf(a_scale * b_scale, (float)dot, (float)before)));
  return dot;
}

/* Whether an explanation says one thing throughout, from codes to D. */
static void check_explanation(json_t *json, const struct hopper_case *p, int64_t i, int64_t j) {
  float total = 0, promoted = 0, promoted_in_range = 0, chain;
  double before = 0, d = number_or_nan(json, "d"), bound = number_or_nan(json, "bound");
  cr_assert(json_array_size(json_object_get(json, "blocks")) == (size_t)p->blocks);
  for (int64_t b = 0; b < p->blocks; b++) {
    json_t *block = item(json, "blocks", (size_t)b);
    int64_t range = integer_in(block, "range");
    float dot = (float)check_block(block, before, p, i, j);
    bool ends = b + 1 == p->blocks || integer_in(item(json, "blocks", (size_t)b + 1), "range") != range;
    before = number_or_nan(block, "sum");
    promoted_in_range += dot;
    if (!ends) continue;
    cr_assert(same(json_number_value(item(json, "range_sums", (size_t)range)), before) || isnan(before));
    total = range == 0 ? (float)before : total + (float)before;
    promoted = range == 0 ? promoted_in_range : promoted + promoted_in_range;
    before = 0;
    promoted_in_range = 0;
  }
  cr_assert(same(number_or_nan(json, "sum"), (double)total));
  cr_assert(json_is_null(json_object_get(json, "c")) || number_in(json, "c") == (double)c[i * N + j]);
  if (isfinite(d) && isfinite(bound)) {
    static const char *const parts[] = {"cuts", "promotion", "c", "output"};
    double error = d - number_in(json, "value"), sum = 0;
    for (int part = 0; part < 4; part++) sum += number_in(json_object_get(json, "error_parts"), parts[part]);
    cr_assert(fabs(sum - error) <= 1e-9 * bound, "%g is not %g", sum, error);
    cr_assert(number_in(json, "error") == fabs(error) && fabs(error) <= bound);
    cr_assert(bound == 0 || number_in(json, "ratio") == fabs(error) / bound);
  }
  json_t *unscaled = json_object_get(json, "unscaled");
  cr_assert(fg_mma(p->a_type, small_a + i * p->k, p->b_type, small_b + j * p->k, p->k, 0, &chain, NULL) == FG_OK);
  cr_assert(same(number_or_nan(unscaled, "chain"), (double)chain));
  cr_assert(same(number_or_nan(unscaled, "promoted"), (double)promoted));
  cr_assert(!isfinite(promoted) || isfinite(number_in(unscaled, "value")));
}

static uint32_t bits_at(const struct tensor *d, int64_t index) {
  uint32_t bits = 0;
  memcpy(&bits, (const char *)d->data + index * (d->type == FG_FP32 ? 4 : 2), d->type == FG_FP32 ? 4 : 2);
  return bits;
}

/* On FP8 files codes that are NaN, infinite or saturated are data like others. What gemm writes is what the formulas give, and what
 * explain explains. */
Test(cli, hopper_from_files, .timeout = 600) {
  int finite = 0, special = 0;
  for (int turn = 0; turn < 60; turn++) {
    struct hopper_case p = make_hopper_case(turn);
    char line[512];
    snprintf(line, sizeof line, "rm -f d.safetensors; finegemm gemm --level hopper --out d.safetensors:d %s", p.options);
    run_well(line);
    const struct tensor *d = load("d.safetensors", "d");
    cr_assert(d->type == p.out_type && d->count == SMALL_M * N);
    for (int64_t index = 0; index < SMALL_M * N; index++) {
      float wanted = hopper_element(&p, index / N, index % N);
      uint32_t bits = 0;
      fg_conversion round = {.rows = 1, .cols = 1, .from = {.data = &wanted}, .to = {.data = &bits, .type = p.out_type}};
      cr_assert(fg_convert(context(), &round) == FG_OK);
      cr_assert(bits_at(d, index) == bits, "%s: [%d, %d] is 0x%X, not 0x%X", line, (int)(index / N), (int)(index % N),
                bits_at(d, index), bits);
      isfinite(wanted) ? finite++ : special++;
    }
    for (int element = 0; element < 3; element++) {
      int64_t i = (int64_t)(next_bits() % SMALL_M), j = (int64_t)(next_bits() % N);
      char bits[16];
      snprintf(bits, sizeof bits, p.out_type == FG_FP32 ? "0x%08X" : "0x%04X", bits_at(d, i * N + j));
      snprintf(line, sizeof line, "finegemm explain --json --products --row %d --col %d %s", (int)i, (int)j, p.options);
      json_t *json = json_from(line, 0);
      cr_assert(strcmp(string_in(json, "bits"), bits) == 0, "%s: %s, not %s", line, string_in(json, "bits"), bits);
      cr_assert(json_is_null(json_object_get(json, "nan")) == !isnan(hopper_element(&p, i, j)), "%s", line);
      check_explanation(json, &p, i, j);
    }
  }
  cr_assert(finite > 10000 && special > 1000, "%d finite elements, %d others", finite, special);
}

/* Of the same element the text says the same, as long as its K asks for. */
Test(cli, explain_as_text) {
  const char *options = "finegemm explain --a x.npy --b w.npy --c c.npy --row 36 --col 149 --split-k 2 --out-type bf16";
  char line[256];
  snprintf(line, sizeof line, "%s --json", options);
  const char *bits = string_in(json_from(line, 0), "bits"), *out = run_well(options);
  cr_expect(strstr(out, bits) && strstr(out, "\nK is summed in 2 ranges") && strstr(out, "adding C in FP32"), "%s", out);
  cr_expect(strstr(out, "\n288 ") && !strstr(out, "\nk 288 "), "a line for each step, but none for a product: %s", out);
  snprintf(line, sizeof line, "%s --products", options);
  out = run_well(line);
  cr_expect(strstr(out, bits) && strstr(out, "\nk 288 ... 299, accumulator ") && strstr(out, "\n299  0x"), "%s", out);

  /* 1/16 times 1/16, 32768 times: the chain stops at 64, the promoted sum goes on to 128. */
  static uint8_t sixteenths[1 << 15];
  memset(sixteenths, 0x18, sizeof sixteenths);
  const float one = 1;
  const struct piece pieces[] = {{"a", "F8_E4M3", "1,32768", sixteenths, sizeof sixteenths},
                                 {"a_scale_inv", "F32", "1", &one, 4}};
  write_safetensors("in.safetensors", pieces, 2, 0);
  out = run_well("finegemm explain --a in.safetensors:a --b in.safetensors:a");
  cr_expect(strstr(out, "The 8 of 256 that cost D most") && strstr(out, "promoted to FP32 every 128            128      0\n") &&
                strstr(out, "in one chain through the tensor core   64    -64\n"),
            "%s", out);
  cr_expect(!strstr(out, "In the tensor core"), "no steps of so long a K: %s", out);
  cr_expect(strstr(out, "by scale times lost:\n") && strstr(out, "\nOnly one chain is off.\n"), "%s", out);

  /* Nothing to add up; and what is not finite, which has no error to take apart. */
  const struct piece none[] = {{"a", "F8_E4M3", "1,0", sixteenths, 0}, {"a_scale_inv", "F32", "1", &one, 4}};
  write_safetensors("in.safetensors", none, 2, 0);
  out = run_well("finegemm explain --a in.safetensors:a --b in.safetensors:a");
  cr_expect(strstr(out, "\n0 products, ") && strstr(out, "F32 0x00000000") && !strstr(out, "Blocks of 128"), "%s", out);
  sixteenths[77] = 0x7F;
  write_safetensors("in.safetensors", pieces, 2, 0);
  out = run_well("finegemm explain --a in.safetensors:a --b in.safetensors:a");
  cr_expect(strstr(out, "F32 0x7FFFFFFF") && !strstr(out, "of which") && !strstr(out, "-nan"), "%s", out);
  cr_expect(strstr(out, "\nSteps whose result is not finite, in which nothing is cut: 2.\n") &&
                strstr(out, "\nD is NaN. k 77: a is NaN (0x7F)\n"),
            "%s", out);

  /* D and the exact value, which may be the same, are shown alike: 3.537109375 has more digits than FP32 needs. */
  static const uint8_t one_code = 0x38;
  const float scale = 3.537109375f;
  const struct piece digits[] = {{"a", "F8_E4M3", "1,1", &one_code, 1},
                                 {"a_scale_inv", "F32", "1", &scale, 4},
                                 {"b", "F8_E4M3", "1,1", &one_code, 1},
                                 {"b_scale_inv", "F32", "1", &one, 4}};
  write_safetensors("in.safetensors", digits, 4, 0);
  out = run_well("finegemm explain --a in.safetensors:a --b in.safetensors:b");
  cr_expect(strstr(out, "\nD      3.537109375  F32") && strstr(out, "\nexact  3.537109375 "), "%s", out);
}

/* What explain calls the first NaN on the way to D. All products but the given ones are 1 (e4m3) or 0.25 (e5m2), all scales 1 but the
 * first of A. */
struct nan_case {
  bool is_e5m2;
  struct {
    int k;
    uint8_t a, b;
  } code[2]; /* a 0: not given */
  float first_scale, c;
  const char *option, *at;
  int index;
  const char *rule, *words;
};

Test(cli, explain_names_the_first_nan) {
  enum { LENGTH = 300, BLOCKS = 3 };
  const char *operand = "NaN operand", *times = "infinity times 0", *minus = "infinity minus infinity";
  const struct nan_case cases[] = {
      {0, {{5, 0x7F, 0x38}}, 1, 0, "", "k", 5, operand, "k 5: a is NaN (0x7F)"},
      {0, {{31, 0x38, 0xFF}}, 1, 0, "", "k", 31, operand, "k 31: b is NaN (0xFF)"},
      {0, {{5, 0xFF, 0x7F}, {200, 0x7F, 0x38}}, 1, NAN, "", "k", 5, operand, "k 5: a is NaN (0xFF)"},
      {1, {{299, 0x7C, 0x7E}}, 1, 0, "", "k", 299, operand, "k 299: b is NaN (0x7E)"},
      {1, {{130, 0x7C, 0x80}}, 1, 0, "", "k", 130, times, "k 130: a is inf (0x7C), b is -0 (0x80): infinity times 0"},
      {1,
       {{3, 0x7C, 0x3C}, {9, 0xFC, 0x3C}},
       1,
       0,
       "",
       "k",
       9,
       minus,
       "k 9: a b is -inf, at k 3 it is inf: infinity minus infinity"},
      {1,
       {{3, 0xFC, 0x3C}, {40, 0x7C, 0x3C}},
       1,
       0,
       "",
       "k",
       40,
       minus,
       "k 40: a b is inf, the accumulator is -inf: infinity minus infinity"},
      {1, {{3, 0x7C, 0x3C}}, 0, 0, "", "block", 0, times, "block 0: the scale is 0, the dot inf: infinity times 0"},
      {1,
       {{3, 0x7C, 0x3C}, {140, 0xFC, 0x3C}},
       1,
       0,
       "",
       "block",
       1,
       minus,
       "block 1: scale times dot is -inf, the sum before it inf: infinity minus infinity"},
      {1,
       {{3, 0x7C, 0x3C}, {290, 0xFC, 0x3C}},
       1,
       0,
       "--split-k 2",
       "range",
       1,
       minus,
       "range 1: its sum is -inf, that of the ranges before it inf: infinity minus infinity"},
      {0, {{0}}, 1, NAN, "", "c", 0, operand, "C is NaN"},
      {1, {{3, 0x7C, 0x3C}}, 1, -INFINITY, "", "c", 0, minus, "C is -inf, the sum inf: infinity minus infinity"},
      {1, {{3, 0x7C, 0x3C}}, 1, INFINITY, "--split-k 3", NULL, 0, NULL, NULL}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    const struct nan_case *is = &cases[i];
    uint8_t a[LENGTH], b[LENGTH];
    const float a_scale[BLOCKS] = {is->first_scale, 1, 1}, b_scale = 1;
    memset(a, 0x38, LENGTH);
    memset(b, 0x38, LENGTH);
    for (int code = 0; code < 2 && is->code[code].a; code++) {
      a[is->code[code].k] = is->code[code].a;
      b[is->code[code].k] = is->code[code].b;
    }
    const char *type = is->is_e5m2 ? "F8_E5M2" : "F8_E4M3";
    const struct piece pieces[] = {{"a", type, "1,300", a, LENGTH},
                                   {"a_scale_inv", "F32", "1,3", a_scale, sizeof a_scale},
                                   {"b", type, "1,300", b, LENGTH},
                                   {"b_scale_inv", "F32", "1", &b_scale, 4},
                                   {"c", "F32", "1,1", &is->c, 4}};
    write_safetensors("in.safetensors", pieces, 5, 0);
    char line[256], said[256];
    snprintf(line, sizeof line, "finegemm explain --a in.safetensors:a --b in.safetensors:b --c in.safetensors:c %s", is->option);
    const char *out = run_well(line);
    snprintf(said, sizeof said, "\nD is NaN. %s\n", is->words ? is->words : "");
    cr_expect(is->words ? strstr(out, said) != NULL : !strstr(out, "D is NaN"), "case %zu: %s", i, out);
    strcat(line, " --json");
    json_t *nan = json_object_get(json_from(line, 0), "nan");
    if (!is->words) {
      cr_expect(json_is_null(nan));
      continue;
    }
    cr_assert(json_is_object(nan), "case %zu", i);
    cr_expect_str_eq(string_in(nan, "at"), is->at);
    cr_expect_eq(integer_in(nan, "index"), is->index);
    cr_expect_str_eq(string_in(nan, "rule"), is->rule);
    cr_expect_str_eq(string_in(nan, "words"), is->words);
  }
}

/* Floats are quantised on load as fg_quantize() does it, whatever the file's order and alignment. */
Test(cli, gemm_quantises) {
  static uint8_t a8[M * K], b8[N * K];
  static float a_scale[M * KB], b_scale[N * KB], d[M * N];
  static const char *const b_files[] = {"w.npy", "wf.npy", "shifted.safetensors"};
  for (int turn = 0; turn < 9; turn++) {
    const struct scaling_case *sa = &scaling_cases[turn % 3], *sb = &scaling_cases[turn / 3];
    fg_type a_type = turn & 1 ? FG_E5M2 : FG_E4M3, b_type = turn & 2 ? FG_E5M2 : FG_E4M3;
    fg_conversion qa = {
        .rows = M, .cols = K, .from = {.data = x}, .to = {.data = a8, .scale = a_scale, .type = a_type, .scaling = sa->scaling}};
    fg_conversion qb = {
        .rows = N, .cols = K, .from = {.data = w}, .to = {.data = b8, .scale = b_scale, .type = b_type, .scaling = sb->scaling}};
    cr_assert(fg_quantize(context(), &qa) == FG_OK && fg_quantize(context(), &qb) == FG_OK, "%s", fg_message());
    fg_operand a = {.data = a8, .scale = a_scale, .type = a_type, .scaling = sa->scaling};
    fg_operand b = {.data = b8, .scale = b_scale, .type = b_type, .scaling = sb->scaling};
    multiply_here(&a, &b, NULL, FG_REFERENCE, FG_FP32, d);
    char line[512];
    snprintf(line, sizeof line,
             "finegemm gemm --a x.npy --b %s --scaling-a %s --scaling-b %s --type-a %s --type-b %s --level reference --out d.npy",
             b_files[turn % 3], sa->name, sb->name, a_type == FG_E4M3 ? "e4m3" : "e5m2", b_type == FG_E4M3 ? "e4m3" : "e5m2");
    run_well(line);
    cr_expect(memcmp(load("d.npy", "")->data, d, sizeof d) == 0, "%s: other bits", line);
  }
}

/* The defaults: 1x128 by 128x128, e4m3; BF16 into safetensors, FP32 into .npy, which holds FP32 of whatever it is rounded to. */
Test(cli, gemm_defaults) {
  run_well("finegemm gemm --a x.npy --b w.npy --level reference --out d.npy");
  run_well("finegemm gemm --a x.npy --b w.npy --level reference --out e.npy --type-a e4m3 --type-b e4m3 --scaling-a 1x128 "
           "--scaling-b 128x128 --out-type f32");
  run_well("finegemm gemm --a x.npy --b w.npy --level reference --out d.safetensors:d");
  run_well("finegemm gemm --a x.npy --b w.npy --level reference --out b.npy --out-type bf16");
  const struct tensor *d = load("d.npy", ""), *bf16 = load("d.safetensors", "d"), *wide = load("b.npy", "");
  cr_assert(d->type == FG_FP32 && bf16->type == FG_BF16 && wide->type == FG_FP32);
  cr_assert(memcmp(d->data, load("e.npy", "")->data, (size_t)d->bytes) == 0);
  static uint16_t rounded[M * N];
  static float back[M * N];
  fg_conversion round = {.rows = M, .cols = N, .from = {.data = d->data}, .to = {.data = rounded, .type = FG_BF16}};
  fg_conversion widen = {.rows = M, .cols = N, .from = {.data = rounded, .type = FG_BF16}, .to = {.data = back, .type = FG_FP32}};
  cr_assert(fg_convert(context(), &round) == FG_OK && fg_convert(context(), &widen) == FG_OK);
  cr_assert(memcmp(bf16->data, rounded, sizeof rounded) == 0 && memcmp(wide->data, back, sizeof back) == 0);
  run_well("finegemm compare b.npy d.safetensors:d"); /* equal as FP32 */
}

/* Long products go in panels; their seams must not show. More than 2^31 products make two, along m or along n. */
Test(cli, gemm_in_panels, .timeout = 600) {
  enum { LONG = 2300, SHORT = 1001, DEEP = 1000 };
  static float tall[LONG * DEEP], wide[SHORT * DEEP];
  for (int i = 0; i < LONG * DEEP; i++) tall[i] = next_float();
  for (int i = 0; i < SHORT * DEEP; i++) wide[i] = next_float();
  write_npy("tall.npy", "<f4", false, "2300, 1000", tall, sizeof tall);
  write_npy("wide.npy", "<f4", false, "1001, 1000", wide, sizeof wide);
  static const char *const scalings[] = {"128x128", "1x128", "tensor"};
  for (int turn = 0; turn < 2; turn++) {
    const char *a = turn ? "wide" : "tall", *b = turn ? "tall" : "wide";
    char line[512];
    snprintf(
        line, sizeof line,
        "finegemm quantize --in %s.npy --out q.safetensors:a --scaling %s; finegemm quantize --in %s.npy --out q.safetensors:b --scaling %s; "
        "finegemm gemm --a q.safetensors:a --b q.safetensors:b --level reference --out d%d.npy",
        a, scalings[turn], b, scalings[(turn + 1) % 2], turn);
    run_well(line);
    const struct tensor *qa = load("q.safetensors", "a"), *qb = load("q.safetensors", "b");
    fg_problem problem = {.m = qa->shape[0], .n = qb->shape[0], .k = DEEP, .level = FG_REFERENCE};
    problem.a = (fg_operand){
        .data = qa->data, .scale = load("q.safetensors", "a_scale_inv")->data, .scaling = turn ? FG_1X128 : FG_128X128};
    problem.b = (fg_operand){
        .data = qb->data, .scale = load("q.safetensors", "b_scale_inv")->data, .scaling = turn ? FG_128X128 : FG_1X128};
    float *d = malloc(sizeof *d * LONG * SHORT);
    problem.d = (fg_result){.data = d, .type = FG_FP32};
    cr_assert(fg_gemm(context(), &problem) == FG_OK, "%s", fg_message());
    snprintf(line, sizeof line, "d%d.npy", turn);
    cr_expect(memcmp(load(line, "")->data, d, sizeof *d * LONG * SHORT) == 0, "other bits along %s", turn ? "n" : "m");
    free(d);
  }
}

/* Of a file of 16 GiB only what is used is read; it would not fit where tests run. */
Test(cli, large_files_cost_what_is_used) {
  const struct piece pieces[] = {{"a", "F32", "37,300", x, sizeof x},
                                 {"before", "BF16", "524288,8192", NULL, (size_t)1 << 33},
                                 {"w", "F32", "150,300", w, sizeof w},
                                 {"z_after", "BF16", "524288,8192", NULL, (size_t)1 << 33}};
  write_safetensors("large.safetensors", pieces, 4, 0);
  run_well("finegemm inspect large.safetensors");
  run_well("finegemm gemm --a large.safetensors:a --b large.safetensors:w --level reference --out d.npy");
  run_well("finegemm gemm --a x.npy --b w.npy --level reference --out e.npy");
  run_well("finegemm compare d.npy e.npy");
  struct rusage usage;
  cr_assert(getrusage(RUSAGE_CHILDREN, &usage) == 0);
  cr_assert(usage.ru_maxrss < 1 << 19, "%ld KiB", usage.ru_maxrss);
}

Test(cli, quantize) {
  static uint8_t q[M * K];
  static float scale[M * KB];
  for (int turn = 0; turn < 12; turn++) {
    const struct scaling_case *s = &scaling_cases[turn % 3];
    bool e5m2 = turn / 3 % 2, ue8m0 = turn / 6;
    fg_conversion conversion = {.rows = M,
                                .cols = K,
                                .from = {.data = x},
                                .flags = ue8m0 ? FG_UE8M0 : 0,
                                .to = {.data = q, .scale = scale, .type = e5m2 ? FG_E5M2 : FG_E4M3, .scaling = s->scaling}};
    cr_assert(fg_quantize(context(), &conversion) == FG_OK);
    char line[256];
    snprintf(line, sizeof line, "finegemm quantize --in x.npy --out q.safetensors:t%d --scaling %s%s%s --json", turn, s->name,
             e5m2 ? " --type e5m2" : "", ue8m0 ? " --ue8m0" : "");
    json_t *json = json_from(line, 0);
    cr_expect_str_eq(string_in(json, "scaling"), s->name);
    cr_expect(json_boolean_value(json_object_get(json, "ue8m0")) == ue8m0);
    char name[32];
    snprintf(name, sizeof name, "t%d", turn);
    const struct tensor *got = load("q.safetensors", name);
    snprintf(name, sizeof name, "t%d_scale_inv", turn);
    const struct tensor *scales = load("q.safetensors", name);
    cr_expect(got->type == conversion.to.type && memcmp(got->data, q, sizeof q) == 0, "%s: other codes", line);
    cr_expect(scales->type == FG_FP32 && scales->count == s->a_scales && memcmp(scales->data, scale, (size_t)scales->bytes) == 0,
              "%s: other scales", line);
    char shape[64] = "";
    for (int i = 0; i < scales->rank; i++)
      snprintf(shape + strlen(shape), sizeof shape - strlen(shape), "%s%lld", i ? "," : "", (long long)scales->shape[i]);
    cr_expect_str_eq(shape, s->a_shape);
  }
}

Test(cli, quantize_a_stack) {
  write_npy("stack.npy", "<f4", false, "3, 50, 300", w, sizeof w);
  static uint8_t q[N * K];
  static float scale[N * KB];
  static const char *const shapes[] = {"[\n    3,\n    50,\n    3\n  ]", "[\n    3,\n    1,\n    3\n  ]",
                                       "[\n    3,\n    1,\n    1\n  ]"};
  for (int turn = 0; turn < 3; turn++) {
    const struct scaling_case *s = &scaling_cases[turn];
    fg_conversion conversion = {.rows = 50,
                                .cols = K,
                                .groups = 3,
                                .from = {.data = w},
                                .to = {.data = q, .scale = scale, .type = FG_E4M3, .scaling = s->scaling}};
    cr_assert(fg_quantize(context(), &conversion) == FG_OK);
    char line[256];
    snprintf(line, sizeof line, "finegemm quantize --in stack.npy --out q.safetensors:w --scaling %s --json", s->name);
    char *out = run_well(line);
    cr_expect(strstr(out, shapes[turn]), "%s", out);
    const struct tensor *got = load("q.safetensors", "w"), *scales = load("q.safetensors", "w_scale_inv");
    cr_expect(got->rank == 3 && memcmp(got->data, q, sizeof q) == 0 && memcmp(scales->data, scale, (size_t)scales->bytes) == 0,
              "%s", line);
    cr_expect_str_eq(string_in(json_from("finegemm inspect q.safetensors:w --json", 0), "scaling"), s->name);
  }
}

/* --- compare */

Test(cli, compare_finds_the_worst) {
  float other[M * N];
  memcpy(other, c, sizeof c);
  other[3 * N + 4] += 0.25f;
  other[5 * N + 6] += 0.5f;
  c[7 * N + 8] = 0;
  other[7 * N + 8] = -0.0f;
  write_npy("c.npy", "<f4", false, "37, 150", c, sizeof c);
  write_npy("other.npy", "<f4", false, "37, 150", other, sizeof other);
  json_t *json = json_from("finegemm compare c.npy other.npy --json", 1), *found = json_object_get(json, "comparison");
  cr_expect(integer_in(found, "elements") == M * N && integer_in(found, "differing") == 3);
  json_t *worst = json_object_get(found, "worst");
  cr_expect(json_integer_value(json_array_get(worst, 0)) == 5 && json_integer_value(json_array_get(worst, 1)) == 6);
  cr_expect(number_in(found, "first") == (double)c[5 * N + 6] && number_in(found, "second") == (double)other[5 * N + 6]);
  cr_expect(number_in(found, "difference") == fabs((double)c[5 * N + 6] - (double)other[5 * N + 6]));
  cr_expect(json_is_false(json_object_get(json, "equal")) && json_is_false(json_object_get(json, "passes")));

  other[9 * N] = NAN; /* beside a number: infinitely far; JSON has no number for that */
  write_npy("other.npy", "<f4", false, "37, 150", other, sizeof other);
  found = json_object_get(json_from("finegemm compare c.npy other.npy --json", 1), "comparison");
  cr_expect(integer_in(found, "differing") == 4 && json_is_null(json_object_get(found, "difference")));
  cr_expect(json_integer_value(json_array_get(json_object_get(found, "worst"), 0)) == 9);
  cr_expect(json_is_true(json_object_get(json_from("finegemm compare other.npy other.npy --json", 0), "equal")),
            "NaN beside itself");
  cr_expect(run("finegemm compare c.npy x.npy").code == 1, "other shapes");
  cr_expect(json_is_null(json_object_get(json_from("finegemm compare c.npy x.npy --json", 1), "comparison")));
  cr_expect(run("finegemm compare c.npy other.npy").code == 1);
}

Test(cli, compare_with_the_bound) {
  run_well("finegemm gemm --a x.npy --b w.npy --c c.npy --level reference --out r.npy");
  run_well("finegemm gemm --a x.npy --b w.npy --c c.npy --level blas --out b.npy");
  run_well("finegemm gemm --a x.npy --b w.npy --c c.npy --out h.npy --out-type f16");
  json_t *json = json_from("finegemm compare r.npy b.npy --a x.npy --b w.npy --c c.npy --json", 0);
  for (int i = 0; i < 2; i++) {
    json_t *check = json_object_get(json_object_get(json, i ? "second" : "first"), "check");
    cr_expect(integer_in(check, "outside") == 0 && number_in(check, "ratio") <= 1 && number_in(check, "ratio") > 0);
    cr_expect(number_in(check, "error") / number_in(check, "bound") == number_in(check, "ratio"));
  }
  cr_expect_str_eq(string_in(json, "level"), "blas");
  cr_expect(json_is_true(json_object_get(json, "passes")));
  cr_expect(run("finegemm compare r.npy b.npy --a x.npy --b w.npy").code == 1, "without C, which was added");
  cr_expect(run("finegemm compare r.npy b.npy --a x.npy --b w.npy --c c.npy --level exact").code == 1,
            "exact's bound is no FP32 sum's");
  cr_expect(run("finegemm compare r.npy h.npy --a x.npy --b w.npy --c c.npy").code == 1, "rounded to FP16");
  run_well("finegemm compare h.npy h.npy --a x.npy --b w.npy --c c.npy --out-type f16");

  /* One element, out of its bound or NaN, in either place; and equal bits that are wrong alike. */
  const struct tensor *right = load("r.npy", "");
  static float wrong[M * N];
  for (int turn = 0; turn < 2; turn++) {
    memcpy(wrong, right->data, sizeof wrong);
    wrong[20 * N + 99] = turn ? NAN : wrong[20 * N + 99] + 1;
    write_npy("wrong.npy", "<f4", false, "37, 150", wrong, sizeof wrong);
    json = json_from("finegemm compare r.npy wrong.npy --a x.npy --b w.npy --c c.npy --json", 1);
    json_t *check = json_object_get(json_object_get(json, "second"), "check");
    cr_expect(integer_in(check, "outside") == 1);
    cr_expect(json_integer_value(json_array_get(json_object_get(check, "worst"), 0)) == 20);
    cr_expect(json_integer_value(json_array_get(json_object_get(check, "worst"), 1)) == 99);
    cr_expect(run("finegemm compare wrong.npy r.npy --a x.npy --b w.npy --c c.npy").code == 1);
    cr_expect(run("finegemm compare wrong.npy wrong.npy --a x.npy --b w.npy --c c.npy").code == 1);
    cr_expect(run("finegemm compare wrong.npy wrong.npy").code == 0);
  }
}

/* --- inspect */

Test(cli, inspect_counts) {
  static float values[300 * 2];
  for (int i = 0; i < 600; i++) values[i] = 1;
  values[0] = 0;
  values[1] = -0.0f;
  values[2] = 0x1p-127f;
  values[3] = -3.5f;
  values[4] = 0x1p-20f;
  write_npy("v.npy", "<f4", false, "2, 300", values, sizeof values);
  json_t *json = json_from("finegemm inspect v.npy --json", 0);
  cr_expect(number_in(json, "amax") == 3.5 && number_in(json, "min_nonzero") == 0x1p-127);
  cr_expect(integer_in(json, "zeros") == 2 && integer_in(json, "subnormals") == 1);
  cr_expect(integer_in(json, "nans") == 0 && integer_in(json, "infinities") == 0);
  cr_expect(integer_in(json_object_get(json_object_get(json, "quantized"), "tensor"), "lost") == 2);
  values[5] = NAN;
  values[6] = -INFINITY;
  write_npy("v.npy", "<f4", false, "2, 300", values, sizeof values);
  json = json_from("finegemm inspect v.npy --json", 0);
  cr_expect(integer_in(json, "nans") == 1 && integer_in(json, "infinities") == 1 && number_in(json, "amax") == 3.5);
  cr_expect(!json_object_get(json, "quantized"), "NaN cannot be quantised");

  const uint8_t codes[8] = {0x00, 0x80, 0x7E, 0xFE, 0x7F, 0x01, 0x08, 0x38};
  const float scales[2] = {0.5f, 2};
  const struct piece pieces[] = {{"e4", "F8_E4M3", "2,4", codes, 8},
                                 {"e4_scale_inv", "F32", "2,1", scales, 8},
                                 {"e5", "F8_E5M2", "2,4", codes, 8},
                                 {"plain", "I64", "1", codes, 8}};
  write_safetensors("v.safetensors", pieces, 4, 0);
  json = json_from("finegemm inspect v.safetensors:e4 --json", 0);
  cr_expect(integer_in(json, "zeros") == 2 && integer_in(json, "at_largest") == 2 && integer_in(json, "nans") == 1);
  cr_expect(integer_in(json, "subnormals") == 1 && number_in(json, "amax") == 448 && number_in(json, "min_nonzero") == 0x1p-9);
  cr_expect_str_eq(string_in(json, "scaling"), "1x128");
  cr_expect(number_in(json_object_get(json, "scale_range"), "least") == 0.5);
  cr_expect(number_in(json_object_get(json, "scale_range"), "most") == 2);
  json = json_from("finegemm inspect v.safetensors:e5 --json", 0);
  cr_expect(integer_in(json, "nans") == 3 && integer_in(json, "infinities") == 0 && integer_in(json, "subnormals") == 1);
  cr_expect_str_eq(string_in(json, "scaling"), "none beside it");
  json = json_from("finegemm inspect v.safetensors:plain --json", 0);
  cr_expect_str_eq(string_in(json, "type"), "I64");
  json = json_from("finegemm inspect v.safetensors --json", 0);
  cr_expect(json_array_size(json_object_get(json, "tensors")) == 4);
  cr_expect_str_eq(string_in(json_array_get(json_object_get(json, "tensors"), 1), "scales_of"), "e4");
}

/* Its errors come from tiles; the same from whole matrices at once must be the same. */
Test(cli, inspect_errors) {
  enum { ROWS = 131, COLS = 8192 + 260, MATRICES = 2, ALL = MATRICES * ROWS * COLS, SCALES = MATRICES * ROWS * 67 };
  static float values[ALL], back[ALL], scale[SCALES];
  static uint8_t q[ALL];
  for (int i = 0; i < ALL; i++) values[i] = next_float() * (float)(1 << next_bits() % 20);
  write_npy("v.npy", "<f4", false, "2, 131, 8452", values, sizeof values);
  json_t *tried = json_object_get(json_from("finegemm inspect v.npy --json", 0), "quantized");
  for (int s = 0; s < 3; s++) {
    bool whole = scaling_cases[s].scaling == FG_TENSOR; /* of the file, not of each matrix */
    fg_conversion there = {.rows = whole ? MATRICES * ROWS : ROWS,
                           .cols = COLS,
                           .groups = whole ? 1 : MATRICES,
                           .from = {.data = values},
                           .to = {.data = q, .scale = scale, .scaling = scaling_cases[s].scaling}};
    fg_conversion and_back = {.rows = there.rows,
                              .cols = COLS,
                              .groups = there.groups,
                              .to = {.data = back},
                              .from = {.data = q, .scale = scale, .type = FG_E4M3, .scaling = scaling_cases[s].scaling}};
    cr_assert(fg_quantize(context(), &there) == FG_OK && fg_dequantize(context(), &and_back) == FG_OK, "%s", fg_message());
    double square = 0, error_square = 0, largest = 0;
    int64_t lost = 0;
    for (int i = 0; i < ALL; i++) {
      double error = fabs((double)back[i] - (double)values[i]);
      square += (double)values[i] * (double)values[i];
      error_square += error * error;
      largest = fmax(largest, error);
      lost += values[i] != 0 && back[i] == 0;
    }
    json_t *found = json_object_get(tried, scaling_cases[s].name);
    double rms = sqrt(error_square / square);
    cr_expect(!(fabs(number_in(found, "relative_rms_error") / rms - 1) > 1e-9), "%s: %.17g", scaling_cases[s].name, rms);
    cr_expect(number_in(found, "largest_error") == largest && integer_in(found, "lost") == lost, "%s", scaling_cases[s].name);
  }
}

/* --- levels, doctor, demo, lesson */

Test(cli, levels_and_doctor) {
  json_t *levels = json_object_get(json_from("finegemm levels --json", 0), "levels");
  int count;
  const fg_level_info *info = fg_levels(&count);
  cr_assert(json_array_size(levels) == (size_t)count);
  for (int i = 0; i < count; i++) {
    json_t *level = json_array_get(levels, (size_t)i);
    bool here = info[i].memory == FG_CPU && fg_can_run(context(), info[i].level) == FG_OK;
    cr_expect_str_eq(string_in(level, "name"), info[i].name);
    cr_expect(json_boolean_value(json_object_get(level, "here")) == here, "%s", info[i].name);
    cr_expect(json_is_null(json_object_get(level, "reason")) == here, "%s", info[i].name);
  }
  json_t *doctor = json_from("finegemm doctor --json", 0);
  cr_expect(json_is_true(json_object_get(doctor, "healthy")));
  cr_expect(json_array_size(json_object_get(doctor, "findings")) >= 5);
}

Test(cli, demo, .timeout = 600) {
  json_t *one = json_from("finegemm demo --size 40x260x1000 --json --threads 1", 0),
         *two = json_from("finegemm demo --size 40x260x1000 --json", 0);
  cr_expect(json_is_true(json_object_get(one, "passes")));
  cr_expect(json_array_size(json_object_get(one, "levels")) >= 3);
  json_t *scalings = json_object_get(one, "scalings");
  cr_expect(json_array_size(scalings) == 3 && integer_in(one, "scaling_rows") == 40);
  double errors[3];
  for (size_t i = 0; i < 3; i++) {
    errors[i] = number_in(json_array_get(scalings, i), "error");
    double again = number_in(json_array_get(json_object_get(two, "scalings"), i), "error");
    cr_expect(!(fabs(errors[i] / again - 1) > 1e-4), "the same layer whatever the threads: %g, %g", errors[i], again);
  }
  cr_expect(errors[1] < errors[0] && errors[2] <= errors[1] && errors[2] > 0.01, "%g %g %g", errors[0], errors[1], errors[2]);

  /* A file's own matrices; where one is FP8 it stays as it is, where both are nothing is left to choose. */
  json_t *files = json_from("finegemm demo x.npy w.npy --json", 0);
  cr_expect(integer_in(files, "m") == M && integer_in(files, "n") == N &&
            json_array_size(json_object_get(files, "scalings")) == 3);
  run_well("finegemm gemm --a x.npy --b w.npy --level reference --out r.npy");
  run_well("finegemm gemm --a x.npy --b w.npy --level hopper --out h.npy");
  json_t *apart = json_object_get(json_from("finegemm compare r.npy h.npy --json", 1), "comparison");
  json_t *beside = json_object_get(files, "hopper_beside_reference");
  cr_expect(integer_in(beside, "differing") == integer_in(apart, "differing"));
  cr_expect(fabs(number_in(beside, "rms") / number_in(apart, "rms") - 1) <= 1e-9);
  json_t *half = json_object_get(json_from("finegemm demo x.npy one.safetensors --json", 0), "scalings");
  cr_expect(json_array_size(half) == 2);
  cr_expect_str_eq(string_in(json_array_get(half, 0), "scaling_x"), "tensor");
  cr_expect_str_eq(string_in(json_array_get(half, 0), "scaling_w"), "128x128");
  cr_expect_str_eq(string_in(json_array_get(half, 1), "scaling_x"), "1x128");
  cr_expect_str_eq(string_in(json_array_get(half, 1), "scaling_w"), "128x128");
  json_t *other = json_object_get(json_from("finegemm demo fp8.safetensors:a w.npy --json", 0), "scalings");
  const char *const w_scalings[] = {"tensor", "128x128", "1x128"};
  cr_expect(json_array_size(other) == 3);
  for (size_t i = 0; i < 3; i++) {
    cr_expect_str_eq(string_in(json_array_get(other, i), "scaling_x"), "1x128");
    cr_expect_str_eq(string_in(json_array_get(other, i), "scaling_w"), w_scalings[i]);
  }
  json_t *none = json_from("finegemm demo fp8.safetensors:a one.safetensors --json", 0);
  cr_expect(json_is_null(json_object_get(none, "scalings")) && json_is_true(json_object_get(none, "passes")));
}

#define KERNEL_LESSONS                                                                                                           \
  "4  naive\n5  shared\n6  wgmma\n7  tma\n8  pipeline\n9  persistent\n10  cluster\n\n'finegemm lesson N' runs one.\n"

/* The program looks for lessons beside itself; here that is a copy of it. Kernels it has with it. */
Test(cli, lessons) {
  char command[4400];
  snprintf(command, sizeof command, "cp '%s' program", FINEGEMM_PROGRAM);
  cr_assert(system(command) == 0 && setenv("FINEGEMM", "./program", 1) == 0);
  cr_expect_str_eq(run_well("finegemm lesson"), KERNEL_LESSONS);
  cr_expect(run("finegemm lesson 1").code == 1);
  cr_expect(strstr(run("finegemm lesson 1").err, "no lessons are installed that are programs"));
  cr_assert(mkdir("lessons", 0700) == 0);
  const char script[] = "#!/bin/sh\necho \"echo of\" \"$@\"\nexit 7\n";
  write_bytes("lessons/03_echo", script, sizeof script - 1, false);
  write_bytes("lessons/03_echo.md", script, sizeof script - 1, false);
  cr_assert(chmod("lessons/03_echo", 0700) == 0);
  cr_expect_str_eq(run_well("finegemm lesson"), "3  echo\n" KERNEL_LESSONS);
  json_t *list = json_object_get(json_from("finegemm lesson --json", 0), "lessons");
  cr_expect(json_array_size(list) == 8 && integer_in(json_array_get(list, 0), "number") == 3);
  struct answer answer = run("finegemm lesson 3 --plot 'a b'");
  cr_expect(answer.code == 7 && strcmp(answer.out, "echo of --plot a b\n") == 0, "%s%s", answer.out, answer.err);
  cr_expect(run("finegemm lesson 1").code == 2 && run("finegemm lesson three").code == 2 && run("finegemm lesson 3x").code == 2);
  cr_expect(run("finegemm lesson --frobnicate").code == 2);
}

/* --- plan */

Test(cli, plan_is_the_librarys) {
  static const char *const kinds[] = {"dense", "batched", "grouped-rows", "masked", "grouped-k"};
  int count;
  const fg_gpu *known = fg_known_gpus(&count);
  json_t *gpus = json_object_get(json_from("finegemm plan --gpus --json", 0), "gpus");
  cr_assert(json_array_size(gpus) == (size_t)count);
  for (int i = 0; i < 2 * count; i++) {
    const fg_gpu *gpu = &known[i / 2];
    json_t *listed = json_array_get(gpus, (size_t)i / 2);
    cr_expect(strcmp(string_in(listed, "name"), gpu->name) == 0 && integer_in(listed, "sms") == gpu->sms);
    fg_plan plan, wish = {.block_m = i % 2 ? 32 : 0, .block_n = i % 3 ? 16 : 0, .blocks = i % 5};
    wish.cluster = strcmp(gpu->arch, "sm_90a") == 0 && wish.blocks ? wish.blocks : 0; /* one cluster */
    fg_problem problem = {.kind = (fg_kind)(i % 5), .m = 1000 * i, .n = 777, .k = 300, .groups = 3, .plan = &wish};
    problem.level = i % 4 < 2 ? FG_SHARED : FG_NAIVE;
    problem.sm_limit = i % 7 ? 0 : 50;
    cr_assert(fg_plan_make(gpu, &problem, &plan) == FG_OK, "%s", fg_message());
    char line[512], blocks[32] = "", cluster[32] = "";
    if (wish.blocks) snprintf(blocks, sizeof blocks, "--blocks %d", wish.blocks);
    if (wish.cluster) snprintf(cluster, sizeof cluster, "--cluster %d", wish.cluster);
    snprintf(line, sizeof line, "finegemm plan --gpu '%s' --kind %s %s --m %d --n 777 --k 300 --level %s %s %s %s %s %s --json",
             gpu->name, kinds[i % 5], i % 5 ? "--groups 3" : "", 1000 * i, i % 4 < 2 ? "shared" : "naive",
             i % 2 ? "--block-m 32" : "", i % 3 ? "--block-n 16" : "", blocks, cluster, i % 7 ? "" : "--sm-limit 50");
    json_t *told = json_object_get(json_from(line, 0), "plan");
    cr_expect_str_eq(string_in(told, "level"), i % 4 < 2 ? "shared" : "naive");
    cr_expect(integer_in(told, "block_m") == plan.block_m && integer_in(told, "block_n") == plan.block_n, "%s", line);
    cr_expect(integer_in(told, "threads") == plan.threads && integer_in(told, "tiles") == plan.tiles, "%s", line);
    cr_expect(integer_in(told, "blocks") == plan.blocks && integer_in(told, "cluster") == plan.cluster, "%s", line);
    cr_expect(integer_in(told, "split_k") == plan.split_k, "%s", line);
  }
}

/* --- Kernels: what compiles them must be here. */

static void need_compiler(void) {
  fg_finding findings[32];
  int count = fg_doctor(findings, 32);
  for (int i = 0; i < count; i++)
    if (strcmp(findings[i].name, "nvrtc") == 0 && !findings[i].works) cr_skip_test("%s", findings[i].found);
}

static json_t *kernel_in(json_t *answer, size_t index) { return json_array_get(json_object_get(answer, "kernels"), index); }

static bool was_cached(json_t *answer, size_t index) {
  json_t *cached = json_object_get(kernel_in(answer, index), "cached");
  cr_assert(json_is_boolean(cached));
  return json_is_true(cached);
}

Test(cli, precompile_fills_the_cache, .timeout = 600) {
  need_compiler();
  const char line[] = "finegemm precompile --levels naive --n 128,256 --k 128 --m 1-100 --json";
  json_t *cold = json_from(line, 0), *kernel = kernel_in(cold, 0);
  cr_assert(json_array_size(json_object_get(cold, "kernels")) == 1 && json_array_size(json_object_get(cold, "shapes")) == 2);
  cr_expect_str_eq(string_in(kernel, "source"), "lessons/04_naive.cu");
  cr_expect_str_eq(string_in(kernel, "level"), "naive");
  cr_expect(strstr(string_in(kernel, "defines"), "A_IS_E5M2=0") != NULL);
  cr_expect(integer_in(kernel, "registers") > 0 && integer_in(kernel, "bytes") > 0);
  cr_expect(!was_cached(cold, 0));
  cr_expect_str_eq(string_in(json_object_get(cold, "gpu"), "arch"), "sm_90a");
  json_t *warm = json_from(line, 0);
  cr_expect(was_cached(warm, 0) && json_is_null(json_object_get(kernel_in(warm, 0), "registers")));
  cr_expect(strstr(run_well("finegemm precompile --levels naive"), "1 kernel, "));

  /* More of them, at the same time; what is there already is not made again. */
  json_t *more = json_from("finegemm precompile --levels naive,shared,shared --types e4m3:e4m3,e5m2:e4m3 --threads 2 --json", 0);
  int compiled = 0;
  cr_assert(json_array_size(json_object_get(more, "kernels")) == 4, "shared is twice the same");
  for (size_t i = 0; i < 4; i++) compiled += !was_cached(more, i);
  cr_expect(compiled == 3, "%d compiled", compiled);
  cr_expect(!was_cached(json_from("finegemm precompile --levels naive --arch sm_80 --json", 0), 0));

  json_t *files = json_object_get(json_from("finegemm cache list --json", 0), "files");
  cr_assert(json_array_size(files) == 5);
  for (size_t i = 0; i < 5; i++) {
    json_t *file = json_array_get(files, i);
    cr_expect(json_is_true(json_object_get(file, "valid")) && json_is_null(json_object_get(file, "why")));
    cr_expect(integer_in(file, "bytes") > 0 && integer_in(file, "used_s") > 1700000000);
    cr_expect(strstr(string_in(file, "kernel"), ".cu") && strstr(string_in(file, "kernel"), "sm_"));
  }
  cr_expect(strstr(run_well("finegemm cache list"), "\n5 kernels, "));
  cr_expect(strstr(run_well("finegemm doctor"), "/cache (FG_CACHE_DIR): 5 kernels, "));
  cr_expect_str_eq(run_well("finegemm cache verify"), "5 of 5 files would be loaded.\n");

  /* Shipped: another cache, empty and elsewhere, has them all by its path. */
  cr_expect(strstr(run_well("finegemm cache export ship"), "5 kernels copied to ship"));
  cr_expect(strstr(run_well("finegemm cache verify --directory \"$PWD/ship\""), "5 of 5 files"));
  cr_expect(integer_in(json_from("finegemm cache export --directory \"$PWD/ship\" again --json", 0), "copied") == 5);
  cr_expect(integer_in(json_from("finegemm cache clear --json", 0), "removed") == 5);
  cr_expect(strstr(run_well("finegemm cache list"), "\n0 kernels, 0 bytes\n"));
  json_t *shipped = json_from("export FG_CACHE_PATH=\"$PWD/ship\"; finegemm precompile --levels naive --json", 0);
  cr_expect(was_cached(shipped, 0));
  cr_expect(strstr(run_well("finegemm cache clear --directory \"$PWD/ship\""), "5 files removed"));
  cr_expect(strstr(run_well("export FG_CACHE_PATH=/nowhere; finegemm doctor"), "-> FG_CACHE_PATH: "));
}

Test(cli, damaged_cache_is_found_out_and_mended, .timeout = 600) {
  static const char *const damages[] = {"printf X | dd of=\"$f\" bs=1 seek=5000 conv=notrunc 2>/dev/null",
                                        "truncate -s 100 \"$f\"",
                                        "truncate -s 0 \"$f\"",
                                        "echo >>\"$f\"",
                                        "chmod 666 \"$f\"",
                                        "mv \"$f\" there; ln -s ../there \"$f\"",
                                        "rm \"$f\"; mkdir \"$f\""};
  need_compiler();
  const char line[] = "finegemm precompile --levels naive --json";
  json_from(line, 0);
  for (size_t i = 0; i < sizeof damages / sizeof *damages; i++) {
    char command[512];
    snprintf(command, sizeof command, "f=$(ls cache/*.kernel); %s", damages[i]);
    cr_assert(system(command) == 0, "%s", command);
    struct answer answer = run("finegemm cache verify");
    cr_expect(answer.code == 1 && *answer.err == '\0', "%s: exit code %d: %s", damages[i], answer.code, answer.err);
    cr_expect(strstr(answer.out, ".kernel would not be loaded: ") && strstr(answer.out, "\n0 of 1 file would be loaded.\n"),
              "%s: %s", damages[i], answer.out);
    cr_expect(integer_in(json_from("finegemm cache verify --json", 1), "invalid") == 1, "%s", damages[i]);
    cr_expect(integer_in(json_from("finegemm cache list --json", 0), "invalid") == 1, "%s", damages[i]);
    cr_expect(strstr(run_well("finegemm doctor"), "1 of its files would not be loaded"), "%s", damages[i]);
    if (strstr(damages[i], "mkdir")) continue;
    cr_expect(!was_cached(json_from(line, 0), 0), "%s", damages[i]);
    cr_expect(strstr(run_well("finegemm cache verify"), "1 of 1 file would be loaded."), "%s", damages[i]);
  }
  /* A folder in its place cannot be replaced, and that is said. */
  struct answer answer = run(line);
  cr_expect(answer.code == 4 && strstr(answer.err, "the cache does not keep them"), "exit code %d: %s", answer.code, answer.err);
}

static bool is_not_kept(const char *line, const char *says) {
  struct answer answer = run(line);
  const char *end = strchr(answer.err, '\n');
  bool good = answer.code == 4 && *answer.out == '\0' && end && end[1] == '\0' && strstr(answer.err, says) &&
              strstr(answer.err, "finegemm precompile: the kernels compile, but the cache does not keep them: ");
  if (!good) fprintf(stderr, "%s: exit code %d: %s", line, answer.code, answer.err);
  return good;
}

Test(cli, caches_that_keep_nothing, .timeout = 600) {
  need_compiler();
  cr_expect(is_not_kept("export FG_CACHE_DIR=; finegemm precompile --levels naive", "no cache is wanted"));
  cr_expect(is_not_kept("export FG_CACHE_DIR=here; finegemm precompile --levels naive", "here is a relative path"));
  cr_expect(is_not_kept("export FG_CACHE_BYTES=1000; finegemm precompile --levels naive", "made when the first kernel is kept"));
  cr_expect(is_not_kept("mkdir -m 777 open; export FG_CACHE_DIR=\"$PWD/open\"; finegemm precompile --levels naive --json",
                        "open may be written by others"));
  cr_expect(is_not_kept("unset FG_CACHE_DIR XDG_CACHE_HOME HOME; finegemm precompile --levels naive", "names a directory"));
  cr_expect(strstr(run_well("export FG_CACHE_DIR=; finegemm doctor"), "no cache is wanted"));
}

/* Root may write anywhere, so this runs as somebody else. */
Test(cli, read_only_cache, .timeout = 600) {
  need_compiler();
  char command[4400];
  snprintf(command, sizeof command, "cp '%s' program && chmod 755 program", FINEGEMM_PROGRAM);
  cr_assert(system(command) == 0 && setenv("FINEGEMM", "./program", 1) == 0);
  run_well("finegemm precompile --levels naive");
  snprintf(command, sizeof command, "chmod 644 cache/*.kernel; chmod 555 cache; chmod 755 .; chmod 777 %s; rm %s/*", prints,
           prints);
  cr_assert(system(command) == 0);
  pid_t child = fork();
  if (child == 0) {
    if (getuid() == 0 && setuid(65534)) _exit(99);
    bool good = strstr(run("finegemm precompile --levels naive").out, " cached ") != NULL;
    good = strstr(run("finegemm cache verify").out, "1 of 1 file would be loaded.") && good;
    good = strstr(run("finegemm doctor").out, "it cannot be written") && good;
    good = is_not_kept("finegemm precompile --levels naive --types e5m2:e5m2", "it cannot be written") && good;
    struct answer answer = run("finegemm cache clear");
    good = answer.code == 5 && strstr(answer.err, "cannot be removed: Permission denied") && good;
    _exit(!good);
  }
  int status;
  cr_assert(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %x", (unsigned)status);
  cr_assert(chmod("cache", 0700) == 0);
}

Test(cli, precompile_without_a_compiler) {
  struct answer answer = run("export FG_NVRTC=/nowhere/libnvrtc.so; finegemm precompile");
  cr_expect(answer.code == 5 && strstr(answer.err, "finegemm precompile: FG_UNSUPPORTED: "), "%d: %s", answer.code, answer.err);
  answer = run("export FG_NVRTC=/nowhere/libnvrtc.so; finegemm lesson 5");
  cr_expect(answer.code == 0 && *answer.err == '\0' && strstr(answer.out, "It is not compiled here: "), "%d: %s", answer.code,
            answer.err);
}

Test(cli, precompile_for_an_architecture_that_there_is_not) {
  need_compiler();
  struct answer answer = run("finegemm precompile --arch sm_999 --sms 1");
  cr_expect(answer.code == 5 && strstr(answer.err, "FG_UNSUPPORTED: ") && strstr(answer.err, "sm_999"), "%d: %s", answer.code,
            answer.err);
}

static void write_text(const char *path, const char *text) { write_bytes(path, text, strlen(text), false); }

static bool has_shape(json_t *answer, const char *name, int64_t n, int64_t k, int64_t groups) {
  size_t index;
  json_t *shape;
  json_array_foreach(json_object_get(answer, "shapes"), index, shape) {
    if (strcmp(string_in(shape, "name"), name) == 0)
      return integer_in(shape, "n") == n && integer_in(shape, "k") == k && integer_in(shape, "groups") == groups;
  }
  return false;
}

/* Sizes as these models publish them. */
Test(cli, precompile_reads_configurations, .timeout = 600) {
  need_compiler();
  const char line[] = "finegemm precompile --levels naive --config config.json --m 1-64 --json";
  write_text("config.json",
             "{\"model_type\": \"deepseek_v3\", \"hidden_size\": 7168, \"intermediate_size\": 18432, \"kv_lora_rank\": 512,"
             "\"moe_intermediate_size\": 2048, \"n_routed_experts\": 256, \"n_shared_experts\": 1, \"q_lora_rank\": 1536,"
             "\"num_attention_heads\": 128, \"num_key_value_heads\": 128, \"qk_nope_head_dim\": 128,"
             "\"qk_rope_head_dim\": 64, \"v_head_dim\": 128, \"head_dim\": \"of no interest here\"}");
  json_t *v3 = json_from(line, 0);
  cr_expect(json_array_size(json_object_get(v3, "shapes")) == 15);
  cr_expect(has_shape(v3, "q_a_proj", 1536, 7168, 0) && has_shape(v3, "q_b_proj", 24576, 1536, 0));
  cr_expect(has_shape(v3, "kv_a_proj_with_mqa", 576, 7168, 0) && has_shape(v3, "q_a_proj, kv_a_proj_with_mqa", 2112, 7168, 0));
  cr_expect(has_shape(v3, "kv_b_proj", 32768, 512, 0) && has_shape(v3, "o_proj", 7168, 16384, 0));
  cr_expect(has_shape(v3, "gate_proj, up_proj", 18432, 7168, 0) && has_shape(v3, "gate_proj with up_proj", 36864, 7168, 0));
  cr_expect(has_shape(v3, "down_proj", 7168, 18432, 0) && has_shape(v3, "experts' gate_proj, up_proj", 2048, 7168, 256));
  cr_expect(has_shape(v3, "experts' gate_proj with up_proj", 4096, 7168, 256));
  cr_expect(has_shape(v3, "experts' down_proj", 7168, 2048, 256) && has_shape(v3, "shared expert's down_proj", 7168, 2048, 0));
  static const char *const kinds[] = {" KIND=0", " KIND=2", " KIND=3", " KIND=4"}; /* dense, and the experts': rows, masked, K */
  cr_assert_eq(json_array_size(json_object_get(v3, "kernels")), 4);
  for (size_t i = 0; i < 4; i++) cr_expect(strstr(string_in(kernel_in(v3, i), "defines"), kinds[i]) != NULL);

  write_text("config.json",
             "{\"hidden_size\": 2048, \"intermediate_size\": 10944, \"kv_lora_rank\": 512, \"q_lora_rank\": null,"
             "\"num_attention_heads\": 16, \"qk_nope_head_dim\": 128, \"qk_rope_head_dim\": 64, \"v_head_dim\": 128}");
  json_t *lite = json_from(line, 0);
  cr_expect(has_shape(lite, "q_proj", 3072, 2048, 0) && !has_shape(lite, "q_a_proj", 0, 2048, 0));

  write_text("config.json",
             "{\"model_type\": \"qwen3_moe\", \"hidden_size\": 4096, \"intermediate_size\": 12288, \"head_dim\": 128,"
             "\"moe_intermediate_size\": 1536, \"num_experts\": 128, \"num_attention_heads\": 64,"
             "\"num_key_value_heads\": 4}");
  json_t *qwen = json_from(line, 0);
  cr_expect(has_shape(qwen, "q_proj", 8192, 4096, 0) && has_shape(qwen, "k_proj, v_proj", 512, 4096, 0));
  cr_expect(has_shape(qwen, "q_proj, k_proj, v_proj", 9216, 4096, 0) && has_shape(qwen, "o_proj", 4096, 8192, 0));
  cr_expect(has_shape(qwen, "experts' gate_proj with up_proj", 3072, 4096, 128));

  write_text("config.json", "{\"model_type\": \"llama4\", \"text_config\": {\"hidden_size\": 4096, \"intermediate_size\": 14336,"
                            "\"num_attention_heads\": 32, \"num_key_value_heads\": 8}}");
  json_t *llama = json_from(line, 0);
  cr_expect(has_shape(llama, "k_proj, v_proj", 1024, 4096, 0) && has_shape(llama, "gate_proj with up_proj", 28672, 4096, 0));
  cr_expect(json_array_size(json_object_get(llama, "shapes")) == 6, "n and k of q_proj and o_proj are the same");

  write_text("config.json", "{\"hidden_size\": 4096, \"intermediate_size\": 14336, \"num_attention_heads\": 32,"
                            "\"num_local_experts\": 8}");
  json_t *mixtral = json_from(line, 0);
  cr_expect(has_shape(mixtral, "experts' down_proj", 4096, 14336, 8) && !has_shape(mixtral, "down_proj", 4096, 14336, 0));

  json_t *weights = json_from("finegemm precompile --levels naive --weights fp8.safetensors --json", 0);
  cr_expect(json_array_size(json_object_get(weights, "shapes")) == 2, "those with scales that fit");
  cr_expect(has_shape(weights, "a", 37, 300, 0) && has_shape(weights, "w.weight", 150, 300, 0));
  const struct piece experts[] = {{"e", "F8_E5M2", "2,75,300", w8, sizeof w8}, {"e_scale_inv", "F32", "2,1,3", w_scale, 24}};
  write_safetensors("experts.safetensors", experts, 2, 0);
  weights = json_from("finegemm precompile --levels naive --weights experts.safetensors --json", 0);
  cr_expect(has_shape(weights, "e", 75, 300, 2) && strstr(string_in(kernel_in(weights, 0), "defines"), "B_IS_E5M2=1"));
}

Test(cli, bad_configurations) {
  static const struct {
    const char *config, *says;
  } cases[] = {
      {"", "is not JSON: line 1"},
      {"{\"hidden_size\": 1,", "is not JSON: line 1"},
      {"{\"hidden_size\": 1, \"hidden_size\": 2}", "is not JSON: line 1"},
      {"[]", "is not a JSON object"},
      {"{}", "hidden_size is missing"},
      {"{\"text_config\": 3}", "hidden_size is missing"},
      {"{\"hidden_size\": 64}", "num_attention_heads is missing"},
      {"{\"hidden_size\": \"64\"}", "hidden_size is \"64\"; it must be an integer from 1 to 268435456"},
      {"{\"hidden_size\": 64.0}", "hidden_size is 64.0"},
      {"{\"hidden_size\": 0}", "hidden_size is 0"},
      {"{\"hidden_size\": -64}", "hidden_size is -64"},
      {"{\"hidden_size\": 268435457}", "hidden_size is 268435457"},
      {"{\"hidden_size\": [\"\\u001b[31m\", \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"]}",
       "hidden_size is ["},
      {"{\"hidden_size\": 64, \"num_attention_heads\": 7}", "head_dim is missing, and hidden_size = 64 is no multiple"},
      {"{\"hidden_size\": 64, \"num_attention_heads\": 4}", "intermediate_size and moe_intermediate_size are both missing"},
      {"{\"hidden_size\": 64, \"num_attention_heads\": 4, \"kv_lora_rank\": 16}", "qk_nope_head_dim is missing"},
      {"{\"hidden_size\": 64, \"num_attention_heads\": 4, \"kv_lora_rank\": 16, \"qk_nope_head_dim\": 1}",
       "qk_rope_head_dim is missing"},
      {"{\"hidden_size\": 64, \"num_attention_heads\": 4, \"kv_lora_rank\": 16, \"qk_nope_head_dim\": 1, \"qk_rope_head_dim\": 1}",
       "v_head_dim is missing"},
      {"{\"hidden_size\": 64, \"num_attention_heads\": 4, \"moe_intermediate_size\": 8}", "but none of n_routed_experts"},
      {"{\"hidden_size\": 64, \"num_attention_heads\": 4, \"intermediate_size\": true}", "intermediate_size is true"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    write_text("config.json", cases[i].config);
    struct answer answer = run("finegemm precompile --config config.json");
    cr_expect(answer.code == 3 && strncmp(answer.err, "finegemm precompile: config.json: ", 34) == 0 && !strchr(answer.err, 033),
              "%s: exit code %d: %s", cases[i].config, answer.code, answer.err);
    cr_expect(strstr(answer.err, cases[i].says), "%s: '%s', but it said: %s", cases[i].config, cases[i].says, answer.err);
  }
}

Test(cli, lessons_that_are_kernels, .timeout = 600) {
  need_compiler();
  for (int number = 4; number <= 10; number++) {
    char line[64], source[64];
    snprintf(line, sizeof line, "finegemm lesson %d --json", number);
    json_t *told = json_from(line, 0);
    const char *level = string_in(told, "level");
    snprintf(source, sizeof source, "lessons/%02d_%s.cu", number, level);
    cr_expect(integer_in(told, "registers") > 0 && integer_in(told, "bytes") > 0);
    cr_expect((integer_in(told, "shared_bytes") > 0) == (number > 4));
    cr_expect(strstr(string_in(told, "recorded"), "| m | n | k |"));
    cr_expect(json_array_size(json_object_get(told, "runs")) == 0);
    snprintf(line, sizeof line, "finegemm precompile --levels %s --json", level);
    cr_expect_str_eq(string_in(kernel_in(json_from(line, 0), 0), "source"), source);
    snprintf(line, sizeof line, "finegemm lesson %d", number);
    const char *out = run_well(line);
    cr_expect(strstr(out, source) && strstr(out, " registers a thread, ") && strstr(out, "\nIt does not run here: "), "%s", out);
    const char *recorded = strstr(out, "\nRecorded elsewhere, as the page has it, and not measured here:\n\nNVIDIA H100");
    cr_expect(recorded && strstr(recorded, "  k  ") && !strpbrk(recorded, "|`*"), "%s", out);
  }
  /* A kernel that is being edited, and is broken. */
  cr_assert(mkdir("tree", 0700) == 0 && mkdir("tree/lessons", 0700) == 0);
  write_text("tree/lessons/04_naive.cu", "extern \"C\" __global__ void naive() { nonsense }\n");
  struct answer answer = run("export FG_KERNEL_DIR=\"$PWD/tree\"; finegemm lesson 4");
  cr_expect(answer.code == 5 && strstr(answer.err, "FG_COMPILE_ERROR: lessons/04_naive.cu(1): error: "), "exit code %d: %s",
            answer.code, answer.err);
}

#ifdef FG_STUB_DRIVER
/* A driver that runs nothing: all that a GPU is asked for, and results that are not to be believed. */
Test(cli, levels_of_a_gpu_that_runs_nothing, .timeout = 600) {
  need_compiler();
  cr_assert(setenv("FG_CUDA_DRIVER", FG_STUB_DRIVER, 1) == 0);
  json_t *levels = json_object_get(json_from("finegemm levels --json", 0), "levels");
  for (int level = FG_NAIVE; level <= FG_FULL; level++)
    cr_expect(json_boolean_value(json_object_get(json_array_get(levels, (size_t)level - 1), "here")));
  static const char *const asked[] = {"--level naive", "--level shared", "--device 0", "--level naive --device 0 --c c.npy"};
  static const char *const given[] = {"naive", "shared", "full", "naive"};
  for (int i = 0; i < 4; i++) {
    char line[256];
    snprintf(line, sizeof line, "finegemm gemm --a x.npy --b w.npy --out d.npy %s --json", asked[i]);
    json_t *told = json_from(line, 0);
    cr_expect_str_eq(string_in(told, "level"), given[i]);
    cr_expect(strstr(string_in(told, "gpu"), "H100"));
    const struct tensor *d = load("d.npy", "");
    cr_expect(d->shape[0] == M && d->shape[1] == N);
  }
  run_well("finegemm gemm --a empty.npy --b w.npy --out d.npy --level shared");
  struct answer answer = run("finegemm gemm --a x.npy --b w.npy --out e.npy --level shared --device 1");
  cr_expect(answer.code == 5 && strstr(answer.err, "FG_BAD_SIZE: ordinal is 1") && access("e.npy", F_OK) != 0, "%s", answer.err);
  answer = run("export FG_STUB_FAIL=12:700; finegemm gemm --a x.npy --b w.npy --out e.npy --level shared");
  cr_expect(answer.code == 5 && strstr(answer.err, "FG_DRIVER_ERROR: ") && access("e.npy", F_OK) != 0, "%d: %s", answer.code,
            answer.err);
  json_t *doctor = json_from("finegemm doctor --json", 1);
  cr_expect(json_is_false(json_object_get(doctor, "healthy")), "nothing is multiplied");
  cr_expect(run("finegemm demo --size 9x130x200").code == 1);
  answer = run("finegemm lesson 5");
  cr_expect(answer.code == 1 && strstr(answer.out, "NOT those of reference"), "%d: %s", answer.code, answer.out);
  cr_expect(strstr(run_well("export FG_STUB_DEVICES=h20:77; finegemm plan --m 9 --n 9 --k 9"), "(sm_90a, 77 multiprocessors)"));
  cr_expect(
      strstr(run_well("export FG_STUB_DEVICES=; finegemm plan --m 9 --n 9 --k 9"), "H100 SXM (sm_90a, 132 multiprocessors)"));
}
#endif

/* --- Interruption and terminals. */

Test(cli, interrupted_it_leaves_nothing) {
  enum { SIDE = 6000 };
  char *zeros = calloc((size_t)SIDE * SIDE, 4);
  write_npy("zeros.npy", "<f4", false, "6000, 6000", zeros, (size_t)SIDE * SIDE * 4);
  free(zeros);
  uint64_t before = hash_of_folder();
  for (int after_ms = 0; after_ms <= 400; after_ms += 200) {
    pid_t child = fork();
    if (child == 0) {
      execl(FINEGEMM_PROGRAM, "finegemm", "gemm", "--a", "zeros.npy", "--b", "zeros.npy", "--level", "exact", "--out", "d.npy",
            (char *)NULL);
      _exit(127);
    }
    nanosleep(&(struct timespec){.tv_nsec = after_ms * 1000000L}, NULL);
    kill(child, SIGINT);
    int status;
    cr_assert(waitpid(child, &status, 0) == child);
    cr_expect(WIFSIGNALED(status) && WTERMSIG(status) == SIGINT, "after %d ms: status %x", after_ms, (unsigned)status);
    cr_expect(hash_of_folder() == before, "after %d ms: files changed", after_ms);
  }
}

/* With stderr a terminal there is a line of progress, and it is gone at the end. */
Test(cli, progress_on_a_terminal, .timeout = 600) {
  enum { ROWS = 2400, DEEP = 1000 };
  static float values[ROWS * DEEP];
  for (int i = 0; i < ROWS * DEEP; i++) values[i] = next_float();
  write_npy("v.npy", "<f4", false, "2400, 1000", values, sizeof values);
  int terminal = posix_openpt(O_RDWR | O_NOCTTY);
  cr_assert(terminal >= 0 && grantpt(terminal) == 0 && unlockpt(terminal) == 0);
  pid_t child = fork();
  if (child == 0) {
    int end = open(ptsname(terminal), O_RDWR | O_NOCTTY);
    dup2(end, STDERR_FILENO);
    dup2(open("/dev/null", O_WRONLY), STDOUT_FILENO);
    close(end);
    close(terminal);
    execl(FINEGEMM_PROGRAM, "finegemm", "gemm", "--a", "v.npy", "--b", "v.npy", "--level", "exact", "--out", "d.npy",
          (char *)NULL);
    _exit(127);
  }
  int status;
  cr_assert(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
  char seen[4096] = "";
  ssize_t got = read(terminal, seen, sizeof seen - 1);
  cr_assert(got > 0 && strstr(seen, "finegemm gemm: multiplying, ") && strstr(seen, " %"), "%s", seen);
  cr_assert(seen[got - 1] == '\r', "the line is cleared");
}
